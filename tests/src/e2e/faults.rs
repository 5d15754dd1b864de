//! Hosts and containers that fail in part: a full disk, programs that cannot run.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::apps::{App, remove};
use super::{Group, Story, note};
use crate::lab::{Lab, PATIENCE, pause, until};

pub(super) const GROUP: Group = Group {
    name: "things that fail in part",
    n_hosts: 3,
    stories: &[
        Story { name: "a full disk refuses in words, and goes on when there is room", run: full },
        Story { name: "what cannot run says why where people look", run: reasons },
        Story { name: "single bytes of a store turn over", run: flipped },
    ],
};

/// Bytes of the disk that is filled: room for the image and the store, and little more.
const DISK: u64 = 96 << 20;

fn full(lab: &mut Lab) -> Result<()> {
    lab.add_host(4)?;
    lab.host(4)?.small_disk(DISK)?;
    lab.join(4)?;
    lab.until_alive(4)?;
    let app = App::new("tight", 4, None).deployed("placement: {max_replicas_per_node: 1}\n");
    app.place(lab)?;
    let before = lab.host(4)?.containers_of("tight");
    ensure!(!before.is_empty(), "host 4 runs no replica");
    lab.host(4)?.fill_disk()?;
    let path = App::new("more", 3, None).write(lab)?;
    let refused = lab.ctl_at(4, &["place", "--yes", &path])?;
    ensure!(refused.code == 1 && refused.err.contains("space"), "not refused: {refused:?}");
    let archive = lab.dir().join("desk/hello.tar").to_string_lossy().into_owned();
    let pushed = lab.ctl_at(4, &["image", "push", &archive])?;
    ensure!(pushed.code == 0 || pushed.err.contains("space"), "an image: {pushed:?}");
    // The others do not need it, and what runs there goes on.
    lab.ctl_at(1, &["place", "--yes", &path])?.done()?;
    lab.until_ready("more", 3)?;
    lab.until_alive(4)?;
    ensure!(lab.host(4)?.containers_of("tight") == before, "its replica was moved");
    // Its agent ends, and comes back in whatever state that allows.
    lab.host_mut(4)?.kill_agent()?;
    lab.host_mut(4)?.start(&["run"])?;
    pause(Duration::from_secs(3));
    let has_ended = lab.host(4)?.check_alive().is_err();
    let log = fs::read_to_string(lab.host(4)?.log())?;
    ensure!(log.to_lowercase().contains("no space"), "its log does not say so");
    lab.host(4)?.empty_disk()?;
    if has_ended {
        // As a service manager would.
        lab.host_mut(4)?.kill_agent()?;
        lab.host_mut(4)?.start(&["run"])?;
    }
    lab.until_serving(4)?;
    lab.until_alive(4)?;
    lab.until_ready("tight", 4)?;
    ensure!(lab.host(4)?.containers_of("tight") == before, "its replica was started again");
    until(PATIENCE, "it has heard what it could not store", || {
        Ok(lab.ctl_at(4, &["ps", "more"])?.code == 0)
    })?;
    lab.ctl_at(4, &["scale", "more/web=4"])?.done()?;
    lab.until_ready("more", 4)?;
    remove(lab, "more")?;
    app.remove(lab)?;
    lab.ctl(&["node", "rm", "--yes", "n4"])?.done()?;
    lab.power_off(4)?;
    lab.until_alive(3)
}

fn reasons(lab: &mut Lab) -> Result<()> {
    for (name, more, reason) in [
        ("nobody", "user: nobody-here", "nobody-here"),
        ("nothing", "entrypoint: [/no-such-program]", "/no-such-program"),
        ("ending", "command: [nonsense]", "exit code 2"),
    ] {
        let path = App::new(name, 1, None).with(more).write(lab)?;
        lab.ctl(&["place", "--yes", "--detach", &path])?.done()?;
        until(PATIENCE, &format!("ps says what is wrong with {name}"), || {
            Ok(lab.ctl(&["ps", name])?.done()?.out.contains(reason))
        })?;
        let why = lab.ctl(&["events"])?.done()?;
        ensure!(why.out.contains(reason), "no event says what is wrong with {name}: {why:?}");
        remove(lab, name)?;
    }
    Ok(())
}

/// A byte of the store's log turns over, each time somewhere else: who it is, what it runs and what it knows stay the same.
fn flipped(lab: &mut Lab) -> Result<()> {
    const PLACES: usize = 8;
    let app = App::new("kept", 3, None).deployed("placement: {max_replicas_per_node: 1}\n");
    app.place(lab)?;
    let (node, before) = (lab.host(2)?.node(), lab.host(2)?.containers_of("kept"));
    let mut n_told = 0;
    for place in 0..PLACES {
        lab.host_mut(2)?.kill_agent()?;
        let log = lab.host(2)?.data().join("store/db");
        let mut bytes = fs::read(&log)?;
        // The end of the file is room that was never written to.
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        let byte = bytes.get_mut(used * (2 * place + 1) / (2 * PLACES));
        *byte.context("the store is empty")? ^= 0x10;
        fs::write(&log, bytes)?;
        lab.host_mut(2)?.start(&["run"])?;
        lab.until_serving(2)?;
        lab.until_alive(3)?;
        lab.until_ready("kept", 3)?;
        until(PATIENCE, "it knows the app", || Ok(lab.ctl_at(2, &["ps", "kept"])?.code == 0))?;
        ensure!(lab.host(2)?.node() == node, "it is another node");
        ensure!(lab.host(2)?.containers_of("kept") == before, "its container was started again");
        let told = lab.ctl_at(2, &["events"])?.done()?.out;
        n_told += usize::from(told.contains("catalogue was lost") || told.contains("lost its end"));
    }
    note(&format!("{n_told} of {PLACES} bytes mattered, and were told of"));
    ensure!(n_told > 0, "no damage was found");
    app.remove(lab)
}
