//! `healthcheck`: how to know whether a replica works. The defaults are Docker's.

use std::time::Duration;

use mesh_coordinator::spec::{HealthTest, Healthcheck};

use crate::amount::{duration, pause, truth, whole};
use crate::report::{Fault, Report};
use crate::tree::quoted;
use crate::walk::{At, Table};

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;
const START_INTERVAL: Duration = Duration::from_secs(5);

/// So many failures in a row are waited for at most; more is a slip of the pen.
const RETRIES_MAX: u32 = 1_000;

/// The health check; `None` when it is disabled, or wrong, which is then in the report.
pub(crate) fn healthcheck(at: &At<'_>, report: &mut Report) -> Option<Healthcheck> {
    let mut table = at.table(report)?;
    let given = table.take("test");
    let disable = table.take("disable");
    let disabled = disable.as_ref().map_or(Some(false), |at| at.parse(truth, report));
    let mut times = |key, parse: fn(&str) -> Result<Duration, Fault>, default| {
        table.take(key).and_then(|at| at.parse(parse, report)).unwrap_or(default)
    };
    let interval = times("interval", pause, INTERVAL);
    let timeout = times("timeout", pause, TIMEOUT);
    let start_period = times("start_period", duration, Duration::ZERO);
    let start_interval = times("start_interval", pause, START_INTERVAL);
    let retries = retries(&mut table, report);
    table.finish(&[], report);
    let disabled = disabled?;
    match (given, disable) {
        (Some(_), Some(disable)) if disabled => {
            disable.refuse(
                "a disabled check cannot have a test",
                "leave out one of the two",
                report,
            );
            None
        }
        (None, _) if disabled => None,
        (None, _) => {
            let help = "write test: [\"CMD\", \"program\", \"argument\"], or disable: true";
            at.refuse("the check has no test", help, report);
            None
        }
        (Some(given), _) => {
            let test = test(&given, report)?;
            Some(Healthcheck { test, interval, timeout, retries, start_period, start_interval })
        }
    }
}

fn retries(table: &mut Table<'_>, report: &mut Report) -> u32 {
    let parse = |text: &str| whole(text, 1, RETRIES_MAX);
    table.take("retries").and_then(|at| at.parse(parse, report)).unwrap_or(RETRIES)
}

/// What to run; `None` also for `NONE`, which means no check.
fn test(at: &At<'_>, report: &mut Report) -> Option<HealthTest> {
    const HELP: &str = "begin the list with CMD, CMD-SHELL or NONE, or write one line of text";
    if !at.is_list() {
        let line = at.text(report)?;
        if line.trim().is_empty() {
            at.refuse("the test is empty", HELP, report);
            return None;
        }
        return Some(HealthTest::Shell(line.to_owned()));
    }
    let items = at.list(report)?;
    let words: Vec<&str> = items.iter().map(|item| item.text(report)).collect::<Option<_>>()?;
    match words.as_slice() {
        ["NONE"] => return None,
        ["CMD", program, ..] if !program.is_empty() => {
            return Some(HealthTest::Exec(
                words.iter().skip(1).map(|word| (*word).to_owned()).collect(),
            ));
        }
        ["CMD-SHELL", line] if !line.trim().is_empty() => {
            return Some(HealthTest::Shell((*line).to_owned()));
        }
        ["CMD" | "CMD-SHELL"] | ["CMD" | "CMD-SHELL", ""] => {
            at.refuse("the test has nothing to run", "name the program after CMD", report);
        }
        ["CMD-SHELL", ..] => {
            let help = "write the whole line as one item, or use CMD";
            at.refuse("CMD-SHELL takes exactly one line", help, report);
        }
        ["NONE", ..] => at.refuse("NONE takes nothing after it", "leave out the rest", report),
        [] => at.refuse("the test is empty", HELP, report),
        [first, ..] => {
            at.refuse(format!("the test begins with {}", quoted(first)), HELP, report);
        }
    }
    None
}
