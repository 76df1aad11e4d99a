//! Configuration, HTTP faces and wiring of the `pyrrha` binary.
