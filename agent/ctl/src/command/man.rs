//! `agentctl man`: the manual, one page for each command.

use std::path::PathBuf;

use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;

/// Write the manual into a directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: agentctl man /usr/local/share/man/man1")]
pub(crate) struct Args {
    /// Where the pages go.
    dir: PathBuf,
}

/// Writes the pages.
pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Outcome, Failure> {
    let dir = args.dir.display();
    clap_mangen::generate_to(cli::definition(), &args.dir).map_err(|error| {
        Failure::usage(
            format!("cannot write the manual into {dir}: {error}"),
            format!("mkdir -p {dir}; who writes there needs the right to"),
        )
    })?;
    ui.note(format!("wrote the manual into {dir}"))?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    //! There is a page for each command, and no other.

    use std::collections::BTreeSet;

    use clap::Command;

    use crate::cli;

    fn collect(command: &Command, name: &str, pages: &mut BTreeSet<String>) {
        pages.insert(format!("{name}.1"));
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            collect(sub, &format!("{name}-{}", sub.get_name()), pages);
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(cli::definition(), dir.path()).unwrap();
        let files = std::fs::read_dir(dir.path()).unwrap();
        let written: BTreeSet<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let mut expected = BTreeSet::new();
        collect(&cli::definition(), "agentctl", &mut expected);
        assert_eq!(written, expected);
        assert!(written.contains("agentctl-node-label.1"));
        assert!(written.iter().all(|page| !page.contains("-help") && !page.contains("-man")));
        let page = std::fs::read_to_string(dir.path().join("agentctl-drain.1")).unwrap();
        assert!(page.contains("Example: agentctl drain alpha"), "{page}");
    }
}
