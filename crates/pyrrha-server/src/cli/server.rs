//! `pyrrha server`

use std::process::ExitCode;

use crate::config::{Flags, Settings};
use crate::{logging, server};

pub(super) fn run(flags: Flags) -> ExitCode {
    let settings = match Settings::resolve(flags) {
        Ok(settings) => settings,
        Err(error) => return super::fail(error),
    };
    logging::start(settings.log_level, settings.log_format);
    match server::run(settings, crate::store::open) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(error),
    }
}
