//! Creating directories and files so that they survive power loss.

use std::io;
use std::path::{Path, PathBuf};

use pyrrha_env::Disk;

/// Creates a directory with its parents and syncs their names. Also of those that exist: a process
/// that was killed may have made them and not come to sync them.
pub(crate) fn create_dir(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let missing = path.ancestors().take_while(|p| !disk.exists(p)).count();
    disk.create_dir_all(path)?;
    let dirs: Vec<&Path> = path.ancestors().filter(|p| !p.as_os_str().is_empty()).collect();
    for (depth, dir) in dirs.iter().enumerate().rev() {
        match sync_name(disk, dir) {
            // Above the data directory Pyrrha may have no business.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && depth >= missing => {}
            result => result?,
        }
    }
    Ok(())
}

/// Makes the name of a file or directory durable.
pub(crate) fn sync_name(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match path.parent() {
        None => Ok(()),
        Some(parent) if parent.as_os_str().is_empty() => disk.sync_dir(Path::new(".")),
        Some(parent) => disk.sync_dir(parent),
    }
}

/// Writes a file in place of what it was: after a crash it is the one or the other.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".tmp");
    let draft = PathBuf::from(draft);
    if disk.exists(&draft) {
        disk.remove_file(&draft)?;
    }
    write_new(disk, &draft, bytes)?;
    disk.rename(&draft, path)?;
    sync_name(disk, path)
}

/// Writes a file that must not exist yet and syncs its content, but not its name.
pub(crate) fn write_new(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = disk.create_new(path)?;
    file.write_at(0, bytes)?;
    file.sync_data()
}
