//! How far work has come: a line that is overwritten on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use pyrrha_env::{Clock, SystemClock};

use crate::cli::output::size;

const WIDTH: u64 = 30;

/// Says on standard error how much of something is done.
pub(super) struct Progress {
    clock: SystemClock,
    terminal: bool,
    next: Duration,
    drawn: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let clock = SystemClock::new();
        let next = clock.monotonic() + Self::pause(terminal);
        Self { clock, terminal, next, drawn: false }
    }

    fn pause(terminal: bool) -> Duration {
        if terminal { Duration::from_millis(100) } else { Duration::from_secs(5) }
    }

    /// `done` of `total` bytes (0: not known) of `what`; shown now and then.
    pub(super) fn show(&mut self, what: &str, done: u64, total: u64) {
        let now = self.clock.monotonic();
        if now < self.next {
            return;
        }
        self.next = now + Self::pause(self.terminal);
        let text = line(what, done, total, self.terminal);
        let mut err = std::io::stderr().lock();
        let _ = if self.terminal { write!(err, "\r\x1b[K{text}") } else { writeln!(err, "{text}") };
        let _ = err.flush();
        self.drawn = self.terminal;
    }

    /// Removes the line from a terminal, before something else is said.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            eprint!("\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(what: &str, done: u64, total: u64, bar: bool) -> String {
    if total == 0 {
        return format!("{what}: {}", size(done));
    }
    let done = done.min(total);
    let percent = u128::from(done) * 100 / u128::from(total);
    let filled = (u128::from(done) * u128::from(WIDTH) / u128::from(total)) as usize;
    let bar = if bar {
        format!("[{:<width$}] ", "#".repeat(filled), width = WIDTH as usize)
    } else {
        String::new()
    };
    format!("{what}: {bar}{percent} % of {}", size(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_up() {
        assert_eq!(line("x", 0, 1024, true), format!("x: [{}] 0 % of 1.0KiB", " ".repeat(30)));
        assert_eq!(
            line("x", 512, 1024, true),
            format!("x: [{}{}] 50 % of 1.0KiB", "#".repeat(15), " ".repeat(15))
        );
        assert_eq!(line("x", 2048, 1024, false), "x: 100 % of 1.0KiB");
        assert_eq!(line("x", 2048, 0, false), "x: 2.0KiB");
    }
}
