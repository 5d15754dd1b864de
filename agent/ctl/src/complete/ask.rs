//! What is asked, of which mesh, for how long.

use std::ffi::OsString;
use std::time::Duration;

use clap::{ArgMatches, FromArgMatches as _};
use mesh_coordinator::view::Overview;
use mesh_identity::operator::Contexts;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::cli::{self, Global};
use crate::config;
use crate::mesh::{CallError, Mesh as _};
use crate::remote::Remote;
use crate::roll::{self, Roll};

/// How long an answer may take: about as long as somebody waits after pressing a key.
const PATIENCE: Duration = Duration::from_millis(800);
/// The number of the word at the cursor; set by the scripts of bash and zsh.
const INDEX: &str = "_CLAP_COMPLETE_INDEX";

/// The words that were typed, as far as they say which mesh is meant.
#[derive(Debug)]
pub(super) struct Line {
    /// The word at the cursor.
    pub(super) current: OsString,
    /// The words before it, the program's name included.
    before: Vec<OsString>,
}

/// `--name` or `-n`: what follows may be its value.
fn is_bare_option(word: &str) -> bool {
    let is_short = word.starts_with('-') && word.len() == 2;
    is_short || (word.starts_with("--") && !word.contains('='))
}

impl Line {
    /// What the shell passed to this process; `None` when no shell did.
    pub(super) fn of_process() -> Option<Self> {
        let index = std::env::var(INDEX).ok().and_then(|index| index.parse().ok());
        Self::of(std::env::args_os().skip(1), index)
    }

    /// After the separator there are the words; the one at the cursor has this index, or is the last.
    fn of(mut arguments: impl Iterator<Item = OsString>, index: Option<usize>) -> Option<Self> {
        arguments.next().filter(|first| first == "--")?;
        let mut before: Vec<OsString> = arguments.collect();
        let index = index.unwrap_or_else(|| before.len().saturating_sub(1));
        let after = before.split_off(index.min(before.len()));
        // An option whose value is not there yet says nothing.
        before.pop_if(|last| is_bare_option(&last.to_string_lossy()));
        Some(Self { current: after.into_iter().next().unwrap_or_default(), before })
    }

    /// What the words before the cursor say; they need not be a whole command.
    fn parsed(&self) -> Option<ArgMatches> {
        cli::definition().ignore_errors(true).try_get_matches_from(&self.before).ok()
    }

    fn global(&self) -> Option<Global> {
        Global::from_arg_matches(&self.parsed()?).ok()
    }

    /// The context that was named.
    pub(super) fn context(&self) -> Option<String> {
        self.global()?.context
    }

    /// The app that an option named.
    pub(super) fn app(&self) -> Option<String> {
        let matches = self.parsed()?;
        let (_, command) = matches.subcommand()?;
        command.try_get_one::<String>("app").ok()?.cloned()
    }

    /// The contexts of the configuration file.
    pub(super) fn contexts(&self) -> Option<Contexts> {
        let path = config::path(&self.global()?).ok()?;
        Contexts::load(&path).ok()
    }

    /// The mesh as an agent sees it.
    pub(super) fn overview(&self) -> Option<Overview> {
        self.ask(async |remote| remote.overview().await)
    }

    /// Who the operators are.
    pub(super) fn roll(&self) -> Option<Roll> {
        self.ask(async |remote| Roll::read(remote).await)
    }

    /// The names of images.
    pub(super) fn images(&self) -> Option<Vec<String>> {
        self.ask(async |remote| roll::image_names(remote).await)
            .map(|names| names.into_keys().collect())
    }

    fn ask<T>(&self, question: impl AsyncFnOnce(&Remote) -> Result<T, CallError>) -> Option<T> {
        let remote = Remote::open(&self.global()?).ok()?;
        let runtime = Builder::new_current_thread().enable_all().build().ok()?;
        let answer = runtime.block_on(async { timeout(PATIENCE, question(&remote)).await });
        // What still goes on must not keep the shell waiting.
        runtime.shutdown_background();
        answer.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    //! The words before the cursor say which mesh is meant, however they say it.

    use std::ffi::OsString;

    use super::Line;

    fn line(words: &str, index: Option<usize>) -> Line {
        Line::of(words.split(' ').map(OsString::from), index).unwrap()
    }

    #[test]
    fn the_word_at_the_cursor_is_known_by_its_index_or_is_the_last() {
        let last = line("-- agentctl ps he", None);
        assert_eq!(last.current, "he");
        assert_eq!(last.before, ["agentctl", "ps"]);
        let inside = line("-- agentctl ps --context prod", Some(1));
        assert_eq!(inside.current, "ps");
        assert_eq!(inside.before, ["agentctl"]);
        assert_eq!(line("-- agentctl ps", Some(2)).current, "", "nothing is typed yet");
        assert!(Line::of(std::iter::empty(), None).is_none());
        assert!(Line::of(["ps".into()].into_iter(), None).is_none(), "that is a command");
    }

    #[test]
    fn options_before_the_cursor_say_which_mesh_is_meant() {
        for words in [
            "-- agentctl --context prod --agent a:1 --config /f ps ",
            "-- agentctl ps --context=prod --agent=a:1 --config=/f ",
            "-- agentctl scale --context prod --agent a:1 --config /f --yse ",
            "-- agentctl --context prod --agent a:1 --config /f --output ",
            "-- agentctl operator rm --context prod --agent a:1 --config /f ",
        ] {
            let global = line(words, None).global().unwrap_or_else(|| panic!("{words}"));
            assert_eq!(global.context.as_deref(), Some("prod"), "{words}");
            assert_eq!(global.agent.as_deref(), Some("a:1"), "{words}");
            assert_eq!(global.config.as_deref(), Some("/f".as_ref()), "{words}");
        }
        let after = line("-- agentctl ps  --context prod", Some(2));
        assert_eq!(after.context(), None, "what follows the cursor is not said yet");
        assert!(line("-- agentctl --context ", None).global().is_some());
        let glued = line("-- agentctl ps --context=prod --agent ", None);
        assert_eq!(glued.context().as_deref(), Some("prod"));
    }

    #[test]
    fn the_app_of_services_is_known() {
        for words in ["-- agentctl scale -a blog ", "-- agentctl scale --app=blog web=1 "] {
            assert_eq!(line(words, None).app().as_deref(), Some("blog"), "{words}");
        }
        assert_eq!(line("-- agentctl nodes ", None).app(), None);
    }
}
