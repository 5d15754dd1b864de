//! A spinner on a terminal, plain lines elsewhere.

use std::time::Duration;

use indicatif::ProgressBar;

use crate::failure::Failure;
use crate::ui::Ui;

/// How often the spinner turns.
const TURN_EVERY: Duration = Duration::from_millis(100);

/// What a person sees while waiting. The spinner is removed when this is dropped.
pub(crate) struct Progress {
    spinner: Option<ProgressBar>,
}

impl Progress {
    /// Begins to wait for `what`.
    pub(crate) fn start(ui: &Ui, what: &'static str) -> Self {
        let spinner = ui.is_live().then(|| {
            let spinner = ProgressBar::new_spinner().with_message(what);
            spinner.enable_steady_tick(TURN_EVERY);
            spinner
        });
        Self { spinner }
    }

    /// Says something that stays on the screen.
    pub(crate) fn say(&self, ui: &mut Ui, line: &str) -> Result<(), Failure> {
        match &self.spinner {
            Some(spinner) => spinner.suspend(|| ui.note(line)),
            None => ui.note(line),
        }
    }

    /// Says how far it is, in the line of the spinner.
    pub(crate) fn now(&self, text: String) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(text);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}
