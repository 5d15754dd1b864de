//! Whoever follows a document.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::NODES;
use super::document::{Part, Step, is_alike};
use crate::e2e::note;
use crate::lab::{Deadline, Lab, Server, Shown, Window, pause};

/// A person is slower than this test: what only looks is typed again until it shows what it should, for so long.
const LOOKS_FOR: Duration = Duration::from_secs(20);
/// What begins so only looks.
const LOOKS: &[&str] = &[
    "agentctl nodes",
    "agentctl ps",
    "agentctl status",
    "agentctl why",
    "AGENTCTL_AGENT=",
    "curl",
];
/// How long somebody watches what goes on until Ctrl-C.
const WATCHES_FOR: Duration = Duration::from_millis(1500);
/// A daemon to save images from is not there: this one has one image, of the example.
const DOCKER: &str = "#!/bin/sh
[ \"$1 $3\" = 'save -o' ] || exit 1
exec /root/mesh/target/*/release/pack-image --name \"$2\" --entrypoint /hello \"$4\" /root/mesh/target/*/release/hello
";

/// What is known of lines that begin so, beyond what the document says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub(super) begins: &'static str,
    pub(super) way: Way,
}

/// How a line is typed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// It fails, and says so.
    Fails,
    /// At a terminal, and these keys after it.
    Keys(&'static str),
    /// Not at all, because of this.
    Not(&'static str),
    /// A part of it is missing, and it says which.
    Partly,
    /// On these servers.
    On(&'static [&'static str]),
    /// Where the last line was typed.
    There,
    /// In a window of its own, where it goes on.
    Window,
}

/// Whoever follows a document.
pub(super) struct Reader<'a> {
    lab: &'a Lab,
    servers: BTreeMap<&'static str, Server>,
    rules: &'static [Rule],
    /// Where the last line was typed.
    there: Vec<&'static str>,
    /// Where the operator's key is.
    desk: &'static str,
    /// Variables that were set in the shell.
    variables: String,
    /// Everything that was shown, in which keys are found again.
    seen: String,
    window: Option<Window>,
    is_beta_off: bool,
    pub(super) n_typed: usize,
    pub(super) untyped: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        lab: &'a Lab,
        servers: BTreeMap<&'static str, Server>,
        rules: &'static [Rule],
    ) -> Self {
        Self {
            lab,
            servers,
            rules,
            there: vec!["alpha"],
            desk: "alpha",
            variables: String::new(),
            seen: String::new(),
            window: None,
            is_beta_off: false,
            n_typed: 0,
            untyped: Vec::new(),
        }
    }

    /// Does what a part of the document says.
    pub(super) fn follow(&mut self, part: &Part) -> Result<()> {
        match part {
            Part::File(text) => self.server(self.desk)?.writes("compose.yaml", text),
            Part::Prose(line) => self.heed(line),
            Part::Typed(step) => {
                self.step(step).with_context(|| format!("line {}: {}", step.number, step.typed))?;
                step.remarked().try_for_each(|step| self.step(&step))
            }
        }
    }

    fn server(&self, name: &str) -> Result<&Server> {
        self.servers.get(name).with_context(|| format!("nobody has a machine {name}"))
    }

    /// What the text tells in words.
    fn heed(&mut self, line: &str) -> Result<()> {
        let is_off =
            line.contains("**Pull the plug**") || line.contains("Switch the *other* server off");
        if is_off {
            self.is_beta_off = true;
            return self.lab.cut_power(self.server("beta")?);
        }
        if self.is_beta_off
            && (line.contains("Switch it on again") || line.contains("**Every day:**"))
        {
            self.is_beta_off = false;
            if let Some(window) = self.window.take() {
                let shown = window.close()?;
                let lost = shown.get("lost").copied().unwrap_or(0);
                let n: usize = shown.values().sum();
                note(&format!("the window beside it: {n} lines, {lost} of them `lost`"));
            }
            self.lab.boot(self.server("beta")?)?;
        }
        if line.starts_with("Both are `alive`?") || line.starts_with("**Place the app**") {
            self.wait_for_nodes()?;
        }
        if line.starts_with("Tab completes") {
            self.tab()?;
        }
        Ok(())
    }

    /// Until somebody has typed on, every agent knows of every other one.
    fn wait_for_nodes(&self) -> Result<()> {
        let agents = NODES.iter().filter_map(|name| self.servers.get(name)).map(Server::number);
        let agents: Vec<usize> = agents.collect();
        for number in &agents {
            let asked =
                format!("agentctl --agent 10.77.0.{number}:7420 nodes | grep -c ' alive .* of '");
            let all = format!("until [ $({asked}) = {} ]; do sleep 0.1; done", agents.len());
            let shown = self.server(self.desk)?.types(&all)?;
            ensure!(shown.code == 0, "the agents do not all know each other: {shown:?}");
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        let rule = self.rules.iter().find(|rule| step.typed.starts_with(rule.begins));
        let way = rule.map(|rule| rule.way);
        if let Some(Way::Not(why)) = way {
            self.untyped.push(format!("{} ({why})", step.typed));
            return Ok(());
        }
        match (way, place(step)) {
            (Some(Way::On(places)), _) => self.there = places.to_vec(),
            (Some(Way::There), None) => {}
            (_, place) => self.there = vec![place.unwrap_or(self.desk)],
        }
        for (index, place) in self.there.clone().into_iter().enumerate() {
            // A document shows the first of several servers.
            let shown: &[String] = if index == 0 { &step.shown } else { &[] };
            let typed = self
                .filled(&step.typed)?
                .replace("--node-name beta", &format!("--node-name {place}"));
            self.types(place, &typed, way, shown)?;
        }
        self.aftermath(step)
    }

    /// What is typed, with the keys that were shown before in the place of examples, and the replica that was lost in the place of
    /// the one in the document.
    fn filled(&self, typed: &str) -> Result<String> {
        let mut words: Vec<String> = Vec::new();
        for word in typed.split(' ') {
            let is_example = word.ends_with("...");
            let last = words.last().cloned().filter(|_| is_example);
            words.push(match last {
                Some(option) => self.last_after(&option)?,
                None => word.to_owned(),
            });
        }
        let typed = words.join(" ");
        if self.is_beta_off && typed.starts_with("agentctl why ") {
            return self.why_lost();
        }
        Ok(typed)
    }

    /// The word that was last seen after another, but for examples.
    fn last_after(&self, option: &str) -> Result<String> {
        let words: Vec<&str> = self.seen.split_whitespace().collect();
        let mut pairs = words.windows(2).rev();
        let found = pairs.find_map(|pair| match pair {
            [first, second] if *first == option && !second.ends_with("...") => Some(*second),
            _ => None,
        });
        let none = || format!("nothing was shown that could be typed after {option}");
        Ok(found.with_context(none)?.to_owned())
    }

    /// The replica that was on the dead server, asked of the agent that took it over.
    fn why_lost(&self) -> Result<String> {
        let deadline = Deadline::after(LOOKS_FOR);
        loop {
            let shown = self.server(self.desk)?.types("agentctl ps hello -o json")?;
            let apps: Value = serde_json::from_str(&shown.text).context("ps is no document")?;
            let slots = apps.pointer("/apps/0/services/0/slots").and_then(Value::as_array);
            for slot in slots.into_iter().flatten() {
                let claims = slot.get("claims").and_then(Value::as_array).cloned();
                let on = |status: &str, claim: &Value| {
                    claim.get("node_status").is_some_and(|own| own == status)
                        && claim.get("phase").is_some_and(|phase| phase == "ready")
                };
                let claims = claims.unwrap_or_default();
                let heir = claims.iter().find(|claim| on("alive", claim));
                if let (Some(heir), true) = (heir, claims.iter().any(|claim| on("down", claim))) {
                    let heir = heir.get("node").and_then(Value::as_str).unwrap_or_default();
                    let number = self.server(heir)?.number();
                    let name = slot.get("name").and_then(Value::as_str).unwrap_or_default();
                    return Ok(format!("AGENTCTL_AGENT=10.77.0.{number}:7420 agentctl why {name}"));
                }
            }
            ensure!(!deadline.is_over(), "no replica was taken over: {}", shown.text);
            pause(Duration::from_millis(100));
        }
    }

    fn types(
        &mut self,
        place: &'static str,
        typed: &str,
        way: Option<Way>,
        written: &[String],
    ) -> Result<()> {
        self.n_typed += 1;
        if let Some((name, _)) = typed.split_once('=')
            && name.chars().all(|c| c.is_ascii_uppercase())
        {
            self.variables.push_str(&format!("{typed}; "));
            return Ok(());
        }
        if typed.starts_with("docker ") {
            self.untyped.push(format!("{typed} (typed to a stand-in: no daemon has images here)"));
            self.server(place)?.has_program("docker", DOCKER)?;
        }
        let line = format!("{}{typed}", self.variables);
        if let Some(Way::Window) = way {
            self.window = Some(self.server(place)?.leaves_running(&line)?);
            return Ok(());
        }
        let deadline = Deadline::after(LOOKS_FOR);
        loop {
            let server = self.server(place)?;
            let shown = match way {
                Some(Way::Keys(keys)) => server.types_at_terminal(&line, keys)?,
                _ if typed.contains(" -f") => server.types_and_interrupts(&line, WATCHES_FOR)?,
                _ => server.types(&line)?,
            };
            self.seen.push_str(&shown.text);
            let judged = judge(typed, &shown, way, written);
            let is_look = LOOKS.iter().any(|look| typed.starts_with(look));
            if judged.is_ok() || !is_look || deadline.is_over() {
                return judged.with_context(|| format!("{place}$ {typed}"));
            }
            pause(Duration::from_millis(200));
        }
    }

    /// What happens beside the shell.
    fn aftermath(&mut self, step: &Step) -> Result<()> {
        if step.typed.starts_with("agentctl context export ") {
            self.server("you")?.copies(self.server("alpha")?, "prod.json")?;
            self.untyped.push("(prod.json is carried to the other machine)".to_owned());
        }
        if step.typed.starts_with("agentctl context rm ") {
            self.desk = "you";
        }
        Ok(())
    }

    /// The Tab key in bash, with the completion that the help says how to install.
    fn tab(&self) -> Result<()> {
        let desk = self.server(self.desk)?;
        let file = "~/.local/share/bash-completion/completions/agentctl";
        desk.types(&format!("mkdir -p $(dirname {file}); agentctl completions bash > {file}"))?;
        for (line, offered) in [
            ("agentctl dr", "drain"),
            ("agentctl ps ", "hello"),
            ("agentctl logs he", "hello hello/web/0 hello/web/1 hello/web/2"),
            ("agentctl why hello/web/", "hello/web/0 hello/web/1 hello/web/2"),
            ("agentctl scale hello/", "hello/web="),
            ("agentctl drain ", "alpha beta"),
            ("agentctl node label b", "beta"),
            ("agentctl place hell", "hello:1"),
            ("agentctl operator rm b", "ben"),
        ] {
            let asked = format!(
                ". {file}; line='{line}'; COMP_LINE=$line; COMP_POINT=${{#line}}; \
                 read -ra COMP_WORDS <<<\"$line\"; [ \"${{line: -1}}\" = ' ' ] && COMP_WORDS+=(''); \
                 COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
                 _agentctl agentctl \"${{COMP_WORDS[COMP_CWORD]}}\" ''; echo \"${{COMPREPLY[@]}}\""
            );
            let shown = desk.types(&asked)?;
            let words: Vec<&str> = shown.text.split_whitespace().collect();
            ensure!(words.join(" ") == offered, "Tab after {line:?} offers {words:?}");
        }
        note("the Tab key in bash completes names of apps, replicas, nodes, images and operators");
        Ok(())
    }

    /// The last lines of the agents' logs, for whoever looks for the reason.
    pub(super) fn end_of_logs(&self) -> String {
        let mut text = "the agents' logs end so:".to_owned();
        for (name, server) in self.servers.iter().filter(|(name, _)| NODES.contains(name)) {
            let log = fs::read_to_string(server.log()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(4);
            for line in lines.get(from..).unwrap_or_default() {
                text.push_str(&format!("\n        {name}: {line}"));
            }
        }
        text
    }
}

/// Where the document says that a line is typed.
fn place(step: &Step) -> Option<&'static str> {
    let remark = step.comment.as_str();
    [
        ("ben", "ben"),
        ("on the second", "beta"),
        ("on the first", "alpha"),
        ("on the server", "alpha"),
        ("on your machine", "you"),
    ]
    .into_iter()
    .find(|(words, _)| remark.starts_with(words))
    .map(|(_, place)| place)
}

/// Compares what was shown with what is written.
fn judge(typed: &str, shown: &Shown, way: Option<Way>, written: &[String]) -> Result<()> {
    let Shown { code, text } = shown;
    let is_right = match way {
        Some(Way::Fails) => *code == 1,
        Some(Way::Partly) => *code == 3,
        // 124: it went on until Ctrl-C.
        _ if typed.contains(" -f") => *code == 124,
        _ => *code == 0,
    };
    ensure!(is_right, "it ended with {code}: {text}");
    let mut left: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    for line in written {
        // The order of replicas and nodes is that of their ids.
        match left.iter().position(|shown| is_alike(line, shown)) {
            Some(found) => drop(left.remove(found)),
            None => bail!("the document shows\n{line}\nand this was shown:\n{text}"),
        }
    }
    // Where the document shows something it shows all of it, but for what replicas were about on their way.
    left.retain(|line| !(line.starts_with("  ") && line.contains(" on ")));
    ensure!(
        written.is_empty() || left.is_empty(),
        "the document does not show\n{}\nand this was shown:\n{text}",
        left.join("\n")
    );
    Ok(())
}
