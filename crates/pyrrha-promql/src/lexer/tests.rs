use super::*;

fn lex(query: &str) -> Result<Vec<TokenKind>, String> {
    let mut lexer = Lexer::new(query);
    let mut kinds = Vec::new();
    loop {
        match lexer.next_token() {
            Ok(Token { kind: TokenKind::Eof, .. }) => return Ok(kinds),
            Ok(token) => kinds.push(token.kind),
            Err(e) => return Err(format!("{}: {}", e.start, e.message)),
        }
    }
}

#[test]
fn numbers_and_durations_are_told_apart() {
    for number in [
        "1", "1.5", ".5", "2.", "1e3", "1E-7", "0x1F", "0x_1F", "1_000", "1_0.5", "0755", "Inf", "nAn",
        "1e1_0", ".5.5", "1e5.",
    ] {
        assert_eq!(lex(number), Ok(vec![TokenKind::Number]), "{number}");
    }
    for duration in ["5m", "1h30m", "1y2w3d4h5m6s7ms", "100ms", "1.5h"] {
        assert_eq!(lex(duration), Ok(vec![TokenKind::Duration]), "{duration}");
    }
    for (bad, text) in [
        ("2.5.", "2.5."),
        ("100..4", "100.."),
        ("0deadbeef", "0de"),
        ("0..3hi", "0..3hi"),
        ("1y1y", "1y1"),
        ("1mm", "1mm"),
        ("5m1", "5m1"),
        ("1__0", "1__"),
        ("1_", "1_"),
        ("1e", "1e"),
        ("0x1.5", "0x1."),
        ("1a", "1"),
    ] {
        assert_eq!(lex(bad), Err(format!("0: bad number or duration syntax: {text:?}")), "{bad}");
    }
}

#[test]
fn words_are_keywords_in_any_case_but_fill_needs_a_parenthesis() {
    assert_eq!(lex("SuM"), Ok(vec![TokenKind::Aggregate(crate::ast::AggregateOp::Sum)]));
    assert_eq!(lex("fill"), Ok(vec![TokenKind::Identifier]));
    assert_eq!(lex("fill ()").map(|t| t[0]), Ok(TokenKind::Keyword(Keyword::Fill)));
    assert_eq!(lex("a:b"), Ok(vec![TokenKind::MetricIdentifier]));
    assert_eq!(lex("{sum}").map(|t| t[1]), Ok(TokenKind::Identifier));
}

#[test]
fn strings_keep_their_meaning() {
    assert_eq!(unquote(r#""a\n\"\x41\101\u00e4""#).as_deref(), Some("a\n\"AA\u{e4}"));
    assert_eq!(unquote(r"'it\'s'").as_deref(), Some("it's"));
    assert_eq!(unquote("`a\\nb`").as_deref(), Some("a\\nb"));
    assert_eq!(lex(r#""\c""#), Err("0: unknown escape sequence U+0063 'c'".into()));
    assert_eq!(lex(r#""\x.""#), Err("0: illegal character U+002E '.' in escape sequence".into()));
    assert_eq!(lex(r#""\"#), Err("0: escape sequence not terminated".into()));
    assert_eq!(lex(r#""\ud800""#), Err("0: escape sequence is an invalid Unicode code point".into()));
    assert_eq!(lex("\"a\nb\""), Err("0: unterminated quoted string".into()));
    assert_eq!(lex("`a"), Err("0: unterminated raw string".into()));
}

#[test]
fn comments_end_with_their_line() {
    assert_eq!(lex("# all of it"), Ok(vec![]));
    assert_eq!(lex("a # b\n# c").map(|t| t.len()), Ok(1));
    assert_eq!(lex("{a # }\n}").map(|t| t.len()), Ok(3));
}

#[test]
fn brackets_hold_durations_only() {
    assert_eq!(lex("[5m:1m]").map(|t| t.len()), Ok(5));
    assert_eq!(lex("[:1m]"), Err("2: unexpected colon before duration in duration expression".into()));
    assert_eq!(lex("[step()::]"), Err("9: unexpected repeated colon in duration expression".into()));
    assert_eq!(lex("[abc]"), Err("1: unexpected character in duration expression: 'a'".into()));
    assert_eq!(lex("["), Err("1: unexpected end of input in duration expression".into()));
    assert_eq!(lex("[#"), Err("1: unexpected character in duration expression: '#'".into()));
    assert_eq!(lex("[range5m]").map(|t| t.len()), Ok(4));
}

#[test]
fn behind_the_first_number_in_brackets_other_tokens_may_stand() {
    assert_eq!(lex("[1m:1m:1m]"), Err("6: unexpected colon ':'".into()));
    assert_eq!(lex("[5m"), Err("3: unclosed left bracket".into()));
    assert_eq!(lex("([5m"), Err("4: unclosed left parenthesis".into()));
    assert_eq!(lex("[5m s"), Err("4: unexpected character: 's', expected ':'".into()));
    assert_eq!(lex("[5m["), Err("3: unexpected left bracket '['".into()));
    assert_eq!(lex("[5m $"), Err("4: unexpected character: '$'".into()));
    assert_eq!(lex("[5m # one\n + step() {a=`b`}]").map(|t| t.len()), Ok(12));
    // That there was a duration counts for later brackets, too.
    assert_eq!(lex("[5m][:5m]").map(|t| t.len()), Ok(7));
}
