//! The doors to the outside: clock and disk. Everything below the server reaches time and files
//! through these traits, so that a simulation can stand in for both.

mod clock;
mod disk;
mod os_disk;

pub use clock::{Clock, SystemClock};
pub use disk::{DirEntry, Disk, DiskFile, DiskLock};
pub use os_disk::OsDisk;
