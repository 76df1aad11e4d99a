//! Attached directories: opened with the store, looked at again now and then.

use std::sync::Arc;
use std::time::Duration;

use pyrrha_env::OsDisk;
use pyrrha_storage::attach::Attached;

use crate::config::AttachSetting;

/// Time between two looks at the attached directories.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Opens all of them; one that cannot be listed stops the start.
pub(super) fn open(settings: &[AttachSetting]) -> Result<Vec<Arc<Attached>>, String> {
    let open = |setting: &AttachSetting| {
        let attached = Attached::open(Arc::new(OsDisk), &setting.dir, setting.tenant.clone());
        attached.map(Arc::new).map_err(|error| format!("cannot attach blocks: {error}"))
    };
    settings.iter().map(open).collect()
}

/// Looks at all of them again. A directory that cannot be listed stays as it was.
pub(super) fn look(attached: &[Arc<Attached>]) {
    for directory in attached {
        if let Err(error) = directory.refresh() {
            tracing::warn!(%error, "attached directory cannot be looked at, its blocks stay as they are");
        }
    }
}
