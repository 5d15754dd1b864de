//! Work on a mesh that serves.

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use super::apps::{App, remove, serves_on};
use super::{Group, Story, note};
use crate::lab::{Lab, Load, PATIENCE, pause, until};

pub(super) const GROUP: Group = Group {
    name: "work under load",
    n_hosts: 3,
    stories: &[
        Story { name: "a drain loses no request of a client that retries once", run: drain },
        Story { name: "an update and a scaling lose no request either", run: update },
        Story { name: "thirty apps are placed at once", run: thirty },
    ],
};

fn drain(lab: &mut Lab) -> Result<()> {
    let app = App::new("drained", 3, Some(8130));
    app.place(lab)?;
    serves_on(lab, &[1, 2, 3], 8130)?;
    let load = Load::start(lab, &[1, 2, 3], 8130, 4, Duration::from_secs(2));
    pause(Duration::from_millis(500));
    lab.ctl(&["drain", "n2"])?.done()?;
    until(PATIENCE, "the drained host is empty", || {
        Ok(lab.host(2)?.containers_of("drained").is_empty())
    })?;
    pause(Duration::from_secs(1));
    let (tally, reason) = load.stop()?;
    note(&format!("{tally:?}"));
    ensure!(tally.sent > 100, "hardly any load: {tally:?}");
    ensure!(tally.lost == 0, "requests were lost: {tally:?}: {reason}");
    lab.until_ready("drained", 3)?;
    lab.ctl(&["undrain", "n2"])?.done()?;
    app.remove(lab)
}

fn update(lab: &mut Lab) -> Result<()> {
    let app = App::new("updated", 3, Some(8131));
    app.place(lab)?;
    serves_on(lab, &[1, 2, 3], 8131)?;
    let load = Load::start(lab, &[1, 2, 3], 8131, 4, Duration::from_secs(2));
    pause(Duration::from_millis(500));
    let next = app.with("environment: {COLOUR: green}\n");
    next.place(lab)?;
    lab.ctl(&["scale", "--yes", "updated/web=6"])?.done()?;
    lab.until_ready("updated", 6)?;
    lab.ctl(&["scale", "--yes", "updated/web=2"])?.done()?;
    lab.until_ready("updated", 2)?;
    pause(Duration::from_millis(500));
    let (tally, reason) = load.stop()?;
    note(&format!("{tally:?}"));
    ensure!(tally.lost == 0, "requests were lost: {tally:?}: {reason}");
    remove(lab, "updated")
}

fn thirty(lab: &mut Lab) -> Result<()> {
    const N: usize = 30;
    let names: Vec<String> = (0..N).map(|number| format!("many{number}")).collect();
    let paths: Vec<String> =
        names.iter().map(|name| App::new(name, 1, None).write(lab)).collect::<Result<_>>()?;
    let each = |act: &(dyn Fn(usize) -> Result<()> + Sync)| {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..N).map(|number| scope.spawn(move || act(number))).collect();
            for one in threads {
                one.join().map_err(|_panic| anyhow!("a thread panicked"))??;
            }
            Ok::<(), anyhow::Error>(())
        })
    };
    let (all, known) = (&*lab, &paths);
    each(&|number| {
        let host = number % 3 + 1;
        let path = known.get(number).map_or("", String::as_str);
        all.ctl_at(host, &["place", "--yes", path])?.done().map(drop)
    })?;
    for name in &names {
        all.until_ready(name, 1)?;
    }
    let running: usize = lab.hosts().map(|host| host.containers().len()).sum();
    ensure!(running == N, "{running} containers run");
    let known = &names;
    each(&|number| known.get(number).map_or(Ok(()), |name| remove(all, name)))
}
