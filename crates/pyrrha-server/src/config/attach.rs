//! Directories of blocks that are read beside the data directory: `[TENANT=]DIR`.

use std::path::PathBuf;

use pyrrha_model::TenantId;

use super::ConfigError;

/// A directory of somebody else's blocks, and who reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachSetting {
    /// The tenant whose queries span it.
    pub tenant: TenantId,
    /// The directory.
    pub dir: PathBuf,
}

impl std::fmt::Display for AttachSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.tenant, self.dir.display())
    }
}

/// Reads the settings of the flag, or else of the file.
pub(super) fn resolve(flags: Vec<String>, file: Vec<String>) -> Result<Vec<AttachSetting>, ConfigError> {
    let texts = if flags.is_empty() { file } else { flags };
    texts.into_iter().map(|text| parse(&text)).collect()
}

fn parse(text: &str) -> Result<AttachSetting, ConfigError> {
    let fail =
        |message: String| ConfigError::Value { key: "storage.attach", value: text.to_owned(), message };
    // A path may have an equals sign of its own, but not before its first slash and without a slash.
    let (tenant, dir) = match text.split_once('=') {
        Some((tenant, dir)) if !tenant.contains('/') => {
            (TenantId::new(tenant).map_err(|e| fail(e.to_string()))?, dir)
        }
        _ => (TenantId::anonymous(), text),
    };
    if dir.is_empty() {
        return Err(fail("must name a directory".to_owned()));
    }
    Ok(AttachSetting { tenant, dir: dir.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_may_stand_before_the_directory() {
        let read = |text: &str| parse(text).map(|a| (a.tenant.to_string(), a.dir.display().to_string()));
        let pair = |tenant: &str, dir: &str| (tenant.to_owned(), dir.to_owned());
        assert_eq!(read("/var/lib/prometheus").expect("valid"), pair("anonymous", "/var/lib/prometheus"));
        assert_eq!(read("team-a=../data").expect("valid"), pair("team-a", "../data"));
        assert_eq!(read("/a/b=c").expect("valid"), pair("anonymous", "/a/b=c"));
        for bad in ["", "team=", "a b=/x", "=/x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let file = vec!["/file".to_owned()];
        assert_eq!(resolve(Vec::new(), file.clone()).expect("valid")[0].dir, PathBuf::from("/file"));
        assert_eq!(resolve(vec!["/flag".to_owned()], file).expect("valid")[0].dir, PathBuf::from("/flag"));
    }
}
