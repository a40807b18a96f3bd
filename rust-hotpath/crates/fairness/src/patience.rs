//! Interactive before batch, without an end of batch work.

use std::time::Duration;

use crate::Class;

/// Interactive work goes before batch work for so long; then batch work has a run. While interactive work is about that takes some
/// five milliseconds, so it costs interactive work that never ends a twentieth.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// Since when batch work has waited while interactive work ran, as the time since any fixed moment.
#[derive(Debug, Default)]
pub struct Patience(Option<Duration>);

impl Patience {
    /// Whose turn it is now, of the classes that have work. To be asked when a run begins, which is then of that class.
    pub fn turn(&mut self, now: Duration, has_work: impl Fn(Class) -> bool) -> Option<Class> {
        let is_interactive = has_work(Class::Interactive);
        if !has_work(Class::Batch) {
            self.0 = None;
            return is_interactive.then_some(Class::Interactive);
        }
        let since = *self.0.get_or_insert(now);
        if is_interactive && now < since + PATIENCE {
            return Some(Class::Interactive);
        }
        self.0 = Some(now);
        Some(Class::Batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_work_has_a_run_in_each_patience() {
        let mut patience = Patience::default();
        let runs: Vec<u32> = (0..1000)
            .filter(|ms| patience.turn(Duration::from_millis(u64::from(*ms)), |_| true) == Some(Class::Batch))
            .collect();
        assert_eq!(runs, [100, 200, 300, 400, 500, 600, 700, 800, 900]);
    }

    #[test]
    fn what_waits_anew_is_patient_anew() {
        let mut patience = Patience::default();
        let only = |only: Class| move |class| class == only;
        assert_eq!(patience.turn(Duration::ZERO, |_| true), Some(Class::Interactive));
        assert_eq!(patience.turn(PATIENCE, only(Class::Interactive)), Some(Class::Interactive));
        assert_eq!(patience.turn(PATIENCE, |_| true), Some(Class::Interactive));
        assert_eq!(patience.turn(PATIENCE, only(Class::Batch)), Some(Class::Batch));
        assert_eq!(patience.turn(PATIENCE * 3 / 2, |_| true), Some(Class::Interactive));
        assert_eq!(patience.turn(PATIENCE, |_| false), None);
    }
}
