//! When to start a process again that ended by itself.

use std::time::Duration;

use crate::spec::RestartPolicy;

/// The first pause; Docker's.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
/// The longest pause on one node. Shorter than Docker's minute, since after [`RESTARTS_IN_A_ROW_MAX`] the slot may go elsewhere.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// After so many restarts in a row a node gives up for a while and another may try: with the pauses above, after about six
/// seconds of failing at once.
pub const RESTARTS_IN_A_ROW_MAX: u32 = 6;

/// The pause before the restart that follows `in_a_row` restarts without a good run between them.
#[must_use]
pub fn back_off(in_a_row: u32) -> Duration {
    let factor = 1_u32.checked_shl(in_a_row).unwrap_or(u32::MAX);
    BACK_OFF_MIN.saturating_mul(factor).min(BACK_OFF_MAX)
}

/// Whether a process that ended with `code` is started again. An unknown code counts as a failure.
#[must_use]
pub(crate) fn is_wanted(policy: RestartPolicy, code: Option<i32>, in_a_row: u32) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::Never => false,
        RestartPolicy::OnFailure { attempts_max } => {
            code != Some(0) && attempts_max.is_none_or(|attempts| in_a_row < attempts)
        }
    }
}
