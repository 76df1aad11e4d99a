//! The link check: relative links in Markdown files lead to something that exists.

use std::path::Path;

/// Relative links of the workspace's Markdown files whose target does not exist.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, String> {
    let mut pages = Vec::new();
    crate::files(root, &["md"], &mut pages)?;
    let mut findings = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).map_err(|e| format!("{}: {e}", page.display()))?;
        let dir = page.parent().unwrap_or(root);
        for target in relative_links(&text) {
            if !dir.join(target).exists() {
                findings.push(format!("{}: dead link {target}", page.display()));
            }
        }
    }
    Ok(findings)
}

/// Targets of `[text](target)` outside code, without fragments; web addresses are left out.
fn relative_links(text: &str) -> Vec<&str> {
    let (mut found, mut in_code) = (Vec::new(), false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if in_code {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            let Some(end) = rest.find(')') else { continue };
            let target = rest[..end].split('#').next().unwrap_or("");
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relative_links_outside_code_count() {
        let page =
            "[a](docs/a.md#part) [b](https://example.org) [c](#here)\n```\n[d](gone.md)\n```\n[e](e.md)";
        assert_eq!(relative_links(page), ["docs/a.md", "e.md"]);
    }
}
