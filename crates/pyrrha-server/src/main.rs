//! The `pyrrha` command.

fn main() {}
