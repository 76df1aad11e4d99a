//! Creating directories and files so that they survive power loss.

use std::io;
use std::path::Path;

use pyrrha_env::Disk;

/// Creates a directory with its parents; the names of those that are new are synced.
pub(crate) fn create_dir(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|p| !disk.exists(p)).collect();
    disk.create_dir_all(path)?;
    for dir in missing.iter().rev().filter_map(|p| p.parent()).filter(|p| !p.as_os_str().is_empty()) {
        disk.sync_dir(dir)?;
    }
    Ok(())
}

/// Writes a file that must not exist yet and syncs its content, but not its name.
pub(crate) fn write_new(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = disk.create_new(path)?;
    file.write_at(0, bytes)?;
    file.sync_data()
}
