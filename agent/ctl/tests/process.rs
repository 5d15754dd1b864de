//! agentctl as a process: exit codes, and what goes to which stream.

#[cfg(test)]
mod process {
    //! See above.

    use std::path::{Path, PathBuf};
    use std::process::{Command, Output, Stdio};

    /// The program, in a directory without a configuration file.
    fn agentctl(home: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_agentctl")));
        command.args(arguments).env_clear().env("HOME", home).stdin(Stdio::null());
        command
    }

    fn run(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = agentctl(home, arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    #[test]
    fn bad_usage_ends_with_2() {
        let home = tempfile::tempdir().unwrap();
        for arguments in [&["plaice"][..], &["scale", "web"], &["node", "label", "alpha", "x"]] {
            let (code, out, err) = run(home.path(), arguments);
            assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        }
        let (_, _, err) = run(home.path(), &["plaice"]);
        assert!(err.contains("'place'"), "a similar command is suggested: {err}");
    }

    #[test]
    fn without_a_configuration_file_it_says_where_it_looked() {
        let home = tempfile::tempdir().unwrap();
        let (code, _, err) = run(home.path(), &["ps"]);
        assert_eq!(code, Some(2));
        let path = home.path().join(".config/agentmesh/operator.json");
        assert!(err.contains(&path.display().to_string()), "{err}");
        assert!(err.contains("agent init"), "{err}");
    }

    #[test]
    fn what_needs_no_mesh_works_without_one() {
        let home = tempfile::tempdir().unwrap();
        for arguments in [&["version"][..], &["json"], &["completions", "bash"], &["--help"]] {
            let (code, out, err) = run(home.path(), arguments);
            assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}");
            assert!(!out.is_empty(), "{arguments:?}");
            assert!(!out.contains('\u{1b}'), "no colours in a pipe: {arguments:?}");
        }
    }

    #[test]
    fn a_reader_that_goes_away_is_no_failure() {
        let home = tempfile::tempdir().unwrap();
        let mut child = agentctl(home.path(), &["json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
    }
}
