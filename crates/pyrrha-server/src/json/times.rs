//! Timestamps of a range query, rendered once for all series.

use pyrrha_model::Timestamp;
use pyrrha_model::go_fmt::push_json_timestamp;

/// Most steps whose texts are kept.
const STEPS_MAX: usize = 1 << 17;

/// `[t,"` for every step.
pub(super) struct TimeTexts {
    start: Timestamp,
    step: i64,
    text: Vec<u8>,
    ends: Vec<u32>,
}

impl TimeTexts {
    /// Texts for `steps` steps (none, where that would take too much).
    pub(super) fn render(start: Timestamp, step: i64, steps: usize) -> Self {
        let steps = if steps > STEPS_MAX { 0 } else { steps };
        let (mut text, mut ends) = (Vec::with_capacity(steps * 18), Vec::with_capacity(steps));
        let mut t = start;
        for _ in 0..steps {
            text.push(b'[');
            push_json_timestamp(&mut text, t);
            text.extend_from_slice(b",\"");
            ends.push(text.len() as u32);
            t = t.saturating_add(step);
        }
        Self { start, step, text, ends }
    }

    /// A cursor before the first step.
    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor { texts: self, next: 0, time: self.start }
    }
}

/// Finds the texts of ascending times.
pub(super) struct Cursor<'a> {
    texts: &'a TimeTexts,
    next: usize,
    /// Time of step `next`.
    time: Timestamp,
}

impl<'a> Cursor<'a> {
    /// The text of `t`, which is greater than all times asked for before; `None` if it is no step.
    #[inline]
    pub(super) fn seek(&mut self, t: Timestamp) -> Option<&'a [u8]> {
        let texts = self.texts;
        if texts.ends.is_empty() {
            return None;
        }
        if self.time != t {
            let distance = t.checked_sub(texts.start)?;
            if distance < 0 || distance % texts.step != 0 {
                return None;
            }
            self.next = usize::try_from(distance / texts.step).ok()?;
        }
        let end = *texts.ends.get(self.next)? as usize;
        let begin = self.next.checked_sub(1).map_or(0, |i| texts.ends[i] as usize);
        self.next += 1;
        self.time = t.saturating_add(texts.step);
        Some(&texts.text[begin..end])
    }
}
