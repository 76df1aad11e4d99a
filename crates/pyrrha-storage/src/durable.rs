//! Creating directories and files so that they survive power loss.

use std::io;
use std::path::Path;

use pyrrha_env::Disk;

/// Creates a directory with its parents; the names of those that are new are synced.
pub(crate) fn create_dir(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|p| !disk.exists(p)).collect();
    disk.create_dir_all(path)?;
    missing.iter().rev().try_for_each(|dir| sync_name(disk, dir))
}

/// Makes the name of a file or directory durable.
pub(crate) fn sync_name(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match path.parent() {
        None => Ok(()),
        Some(parent) if parent.as_os_str().is_empty() => disk.sync_dir(Path::new(".")),
        Some(parent) => disk.sync_dir(parent),
    }
}

/// Writes a file that must not exist yet and syncs its content, but not its name.
pub(crate) fn write_new(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = disk.create_new(path)?;
    file.write_at(0, bytes)?;
    file.sync_data()
}
