use super::*;

fn compile(expression: &str) -> GoRegex {
    GoRegex::anchored(expression).unwrap_or_else(|e| panic!("{expression}: {e}"))
}

#[test]
fn matches_are_anchored_and_dots_match_newlines() {
    for (expression, yes, no) in [
        ("foo", "foo", "foobar"),
        ("a|b", "b", "ab"),
        ("a.c", "a\nc", "ac"),
        ("^a$|b", "a", "ab"),
        ("(?i)abc", "aBc", "abcd"),
        ("a(?i)b|c", "C", "A"),
        (r"\d+", "123", "١٢"),
        (r"\w+", "a_1", "é"),
        (r"[[a]", "[", "]"),
        (r"[a&&b]+", "&b", "c"),
        (r"[!--b]", ",", "c"),
        (r"[a~~b]", "~", "c"),
        (r"[]a]", "]", "b"),
        (r"[^]a]", "b", "]"),
        (r"[a\-z]", "-", "b"),
        (r"[\d\s]", "5", "d"),
        (r"[[:alpha:][:digit:]]+", "a1", "-"),
        (r"[[:^alpha:]]", "1", "a"),
        (r"\Qa.b\E+", "a.bb", "axb"),
        (r"\Qa|b", "a|b", "a"),
        (r"\101\x42\x{43}", "ABC", "abc"),
        (r"\.\_", "._", "a_"),
        (r"a{2}", "aa", "a{2}"),
        (r"a{,2}", "a{,2}", "aa"),
        (r"a{02}", "a{02}", "aa"),
        (r"x{2,}y?", "xxx", "x"),
        (r"a\b-", "a-", "a"),
        (r"a\Bb", "ab", "a b"),
        (r"\pL\p{Greek}\P{Lu}", "éαx", "éax"),
        (r"\p{^Greek}", "a", "α"),
        (r"(?U)a+?", "aaa", "b"),
        (r"a(?i)*", "aaa", "A"),
        (r"(?)a", "a", "b"),
        (r"(?s-s:.)", "a", "\n"),
        (r"[\x{D000}-\x{DFFF}]", "\u{D000}", "a"),
        (r"a\x{D800}|b", "b", "a"),
        (".*", "", "-never-"),
        (".+", "x\n", ""),
        ("foo.*", "foo", "fo"),
        ("foo.+", "fooé", "foo"),
        (".*foo.*bar", "xfoofoo bar", "foobarx"),
        (".+foo.+", "foofoofoo", "foofoo"),
        ("()", "", "x"),
        ("(a|)b", "b", "a"),
        ("}", "}", "{"),
        ("]", "]", "["),
    ] {
        let regex = compile(expression);
        assert!(regex.is_match(yes), "{expression} must match {yes:?}");
        assert!(no == "-never-" || !regex.is_match(no), "{expression} must not match {no:?}");
    }
}

#[test]
fn what_go_refuses_is_refused_with_its_words() {
    for (expression, error) in [
        ("(a", "missing closing ): `(a`"),
        ("a)", "unexpected ): `a)`"),
        ("a)|(b", "unexpected ): `a)|(b`"),
        ("[a", "missing closing ]: `[a`"),
        ("x[]", "missing closing ]: `[]`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("(*)", "missing argument to repetition operator: `*`"),
        ("a|+?", "missing argument to repetition operator: `+?`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a+?{2}", "invalid nested repetition operator: `+?{2}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        ("((a{100}){10}){2}", "invalid repeat count: `{2}`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        (r"\pX", r"invalid character class range: `\pX`"),
        (r"\p{greek}", r"invalid character class range: `\p{greek}`"),
        (r"\y", r"invalid escape sequence: `\y`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000`"),
        (r"[\b]", r"invalid escape sequence: `\b`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        ("(?u)a", "invalid or unsupported Perl syntax: `(?u`"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?i-)", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?P<n", "invalid named capture: `(?P<n`"),
        ("(?P<n-m>a)", "invalid named capture: `(?P<n-m>`"),
    ] {
        let got = GoRegex::anchored(expression).map(|_| ()).map_err(|e| e.to_string());
        assert_eq!(got, Err(format!("error parsing regexp: {error}")), "{expression}");
    }
}

#[test]
fn hostile_expressions_are_refused_and_not_built() {
    let nested = format!("{}a{}", "(".repeat(5000), ")".repeat(5000));
    let huge = r"\pL{1000}".repeat(500);
    let long = "a.".repeat(1 << 20);
    for expression in [nested, huge, long] {
        let error = GoRegex::anchored(&expression).map(|_| ()).map_err(|e| e.to_string());
        assert!(
            error.clone().is_err_and(|e| e.contains("expression too large") && e.len() < 2000),
            "{error:?}"
        );
    }
}

#[test]
fn finite_expressions_become_sets() {
    let set = |expression: &str| compile(expression).set_matches().map(<[String]>::to_vec);
    let words = |list: &[&str]| Some(list.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(set("foo"), words(&["foo"]));
    assert_eq!(set("b|a|c(d|e)"), words(&["a", "b", "cd", "ce"]));
    assert_eq!(set(r"a\.b|c\-d"), words(&["a.b", "c-d"]));
    assert_eq!(set("foobar|foobaz|"), words(&["", "foobar", "foobaz"]));
    assert_eq!(set("[ab]c?"), words(&["a", "ac", "b", "bc"]));
    assert_eq!(set("^(a|b)$"), words(&["a", "b"]));
    assert_eq!(set(""), words(&[""]));
    for open in ["a.", "a*", ".*", "(a$)b", "a|b.*", "[^a]", r"a\b"] {
        assert_eq!(set(open), None, "{open}");
    }
    let many = (0..20_000).map(|i| format!("pod-{i}")).collect::<Vec<_>>().join("|");
    assert!(compile(&many).is_match("pod-19999") && !compile(&many).is_match("pod-20000"));
}

#[test]
fn prefixes_and_any() {
    assert_eq!(compile("foo.*").prefix(), Some("foo"));
    assert_eq!(compile("^foo[0-9]+").prefix(), Some("foo"));
    assert_eq!(compile("foo|fob").prefix(), None);
    assert_eq!(compile("(?i)foo.*").prefix(), None);
    assert_eq!(compile("fo?.*").prefix(), Some("f"));
    assert!(compile(".*").is_any() && compile("(.*)").is_any() && compile("^.*$").is_any());
    assert!(!compile(".+").is_any() && compile(".+").is_any_nonempty());
    assert!(!compile("(?-s).*").is_any());
}

#[test]
fn replacements_expand_by_gos_rules() {
    for (expression, template, text, want) in [
        ("(.*)-(.*)", "$2-$1", "a-b", Some("b-a")),
        ("(.*)-(.*)", "${2}x$1", "a-b", Some("bxa")),
        ("(.*)-(.*)", "$1x", "a-b", Some("")),
        ("(?P<first>.*)-(?<second>.*)", "$second.${first}", "a-b", Some("b.a")),
        ("(a)", "$$1 $ ${ $1", "a", Some("$1 $ ${ a")),
        ("(a)", "$01$9$0", "a", Some("a")),
        ("(a)|b", "[$1]", "b", Some("[]")),
        ("(?P<n>a)(?P<n>b)(?<n>c)", "$n$2$3", "abc", Some("abc")),
        ("(?P<n>a)|(?P<n>b)", "[$n]", "b", Some("[b]")),
        ("a", "const", "a", Some("const")),
        ("a", "const", "ab", None),
        ("(é)(.*)", "$2$1", "é\nz", Some("\nzé")),
    ] {
        let replacer = GoReplacer::new(expression, template).expect("valid");
        assert_eq!(replacer.replace(text).as_deref(), want, "{expression} {template}");
    }
}

proptest::proptest! {
    /// Sets and pieces are shortcuts of the automaton and must agree with it.
    #[test]
    fn shortcuts_agree_with_the_automaton(
        expression in r"(\.\*|\.\+|a|b|\||\(|\)|\^|\$|a\?){0,8}",
        texts in proptest::collection::vec("[ab]{0,5}", 8),
    ) {
        if let Ok(regex) = GoRegex::anchored(&expression) {
            let automaton = Regex::new(&format!(r"\A(?s:{expression})\z")).expect("same syntax");
            for text in texts {
                let want = automaton.is_match(text.as_bytes());
                proptest::prop_assert_eq!(regex.is_match(&text), want, "{} {}", expression, text);
            }
        }
    }

    /// Whatever is written, it is refused or can be used.
    #[test]
    fn any_text_is_refused_or_compiled(
        expression in r"([a-c\-\^$.|?*+(){}\[\]\\:P<>idpxQEL0-9,&~é]|\\[pPxQE]|\[:alpha:\]|\(\?){0,24}",
        text in r"[a-c\-é]{0,6}",
    ) {
        if let Ok(regex) = GoRegex::anchored(&expression) {
            let _ = regex.is_match(&text);
            let replacer = GoReplacer::new(&expression, "$1${2}$$x");
            proptest::prop_assert!(replacer.is_ok(), "{}", expression);
            proptest::prop_assert_eq!(replacer.is_ok_and(|r| r.replace(&text).is_some()), regex.is_match(&text));
            for word in regex.set_matches().unwrap_or_default().iter().take(20) {
                proptest::prop_assert!(regex.is_match(word));
                proptest::prop_assert!(regex.prefix().is_none_or(|p| word.starts_with(p)));
            }
        }
    }
}
