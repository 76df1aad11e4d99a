//! Instant functions as stages of a stream.

use crate::annotations::Annotation;
use crate::ast::Pos;
use crate::error::QueryError;
use crate::exec::Exec;
use crate::exec::pipeline::Stage;
use crate::kernel::{KernelArgs, KernelNotes, MapKernel, SeriesKernel};
use crate::value::{ScalarColumn, Series, Steps};

/// A function from float to float.
pub(crate) struct Map<'a> {
    pub(crate) exec: &'a Exec<'a>,
    pub(crate) kernel: MapKernel,
}

impl Stage for Map<'_> {
    fn apply(&self, mut series: Series, _: &mut Vec<Annotation>) -> Result<Option<Series>, QueryError> {
        series.column.histograms_mut().clear();
        if series.column.is_empty() {
            return Ok(None);
        }
        // Values where nothing is present are computed too: cheaper than asking.
        series.column.floats_mut().0.iter_mut().for_each(|v| *v = (self.kernel)(*v));
        self.exec.drop_name(&mut series);
        Ok(Some(series))
    }
}

/// A function of one series' column.
pub(crate) struct PerSeries<'a> {
    pub(crate) exec: &'a Exec<'a>,
    pub(crate) kernel: SeriesKernel,
    pub(crate) scalars: Vec<ScalarColumn>,
    pub(crate) strings: Vec<String>,
    pub(crate) positions: &'a [Pos],
    pub(crate) steps: Steps,
}

impl Stage for PerSeries<'_> {
    fn apply(&self, mut series: Series, notes: &mut Vec<Annotation>) -> Result<Option<Series>, QueryError> {
        let args = KernelArgs {
            scalars: &self.scalars,
            strings: &self.strings,
            ..self.exec.kernel_args(self.steps)
        };
        let mut found = KernelNotes::new(&self.exec.ctx.symbols, self.positions);
        found.about(Some(&series.labels));
        (self.kernel)(&mut series.column, &args, &mut found);
        notes.append(&mut found.take());
        if let Some(failure) = found.take_failure() {
            return Err(failure);
        }
        if series.column.is_empty() {
            return Ok(None);
        }
        self.exec.drop_name(&mut series);
        Ok(Some(series))
    }
}

/// `timestamp()`: the evaluation times where there is a value; columns of a selector's own
/// timestamps (no `steps`) pass.
pub(crate) struct StepTimes<'a> {
    pub(crate) exec: &'a Exec<'a>,
    pub(crate) steps: Option<Steps>,
}

impl Stage for StepTimes<'_> {
    fn apply(&self, mut series: Series, _: &mut Vec<Annotation>) -> Result<Option<Series>, QueryError> {
        if let Some(steps) = self.steps {
            let presence = series.column.presence();
            series.column.histograms_mut().clear();
            for step in presence.iter() {
                series.column.set_float(step, steps.time(step) as f64 / 1000.0);
            }
        }
        self.exec.drop_name(&mut series);
        Ok(Some(series))
    }
}
