//! The header check: every Rust file says its one job in its first line. `tests.rs` is exempt: its name
//! says it.

use std::path::Path;

/// Files that do not begin with `//! `.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, String> {
    let mut sources = Vec::new();
    crate::files(root, &["rs"], &mut sources)?;
    let mut findings = Vec::new();
    for path in sources.into_iter().filter(|p| p.file_name().is_none_or(|n| n != "tests.rs")) {
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        if !has_header(&text) {
            findings
                .push(format!("{}: the first line does not say the file's job (`//! ...`)", path.display()));
        }
    }
    Ok(findings)
}

fn has_header(text: &str) -> bool {
    text.starts_with("//! ") || text.starts_with("// @generated")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_its_job_is_found() {
        assert!(has_header("//! What it does.\n"));
        assert!(!has_header("use std::fmt;\n"));
        assert!(!has_header(""));
    }
}
