//! The `pyrrha` command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    use_small_pages();
    pyrrha_server::cli::run()
}

/// The allocator asks for huge pages, which hold twice the memory that the head uses of them
/// (measured: 1270 against 569 resident bytes a series) for 4 % less CPU time. Memory is the dearer
/// of the two. Where the kernel refuses, all works as well.
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay allowed");
    }
}
