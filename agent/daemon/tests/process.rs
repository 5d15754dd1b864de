//! The agent as a process: the exit codes of what ends before it serves.

#[cfg(test)]
mod process {
    //! See above.

    use std::path::Path;
    use std::process::{Command, Output, Stdio};

    fn run(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut agent = Command::new(env!("CARGO_BIN_EXE_agent"));
        // No setting of this host may play a part.
        agent.args(arguments).env_clear().current_dir(home).stdin(Stdio::null());
        let Output { status, stdout, stderr } = agent.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    #[test]
    fn bad_usage_ends_with_64() {
        let home = tempfile::tempdir().unwrap();
        for arguments in [
            &[][..],
            &["chekc"],
            &["run", "--chekc-config"],
            &["init", "--name", "not a name"],
            &["join", "10.0.0.1:7420"],
            &["check", "surplus"],
            &["shim"],
        ] {
            let (code, out, err) = run(home.path(), arguments);
            assert_eq!((code, out.as_str()), (Some(64), ""), "{arguments:?}: {err}");
        }
        let (_, _, err) = run(home.path(), &["chekc"]);
        assert!(err.contains("'check'"), "a similar command is suggested: {err}");
    }

    #[test]
    fn a_bad_setting_ends_with_64() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("agent.toml");
        let path = file.to_str().unwrap();
        for setting in ["listne = \"0.0.0.0:7420\"", "listen = \"nowhere\"", "="] {
            std::fs::write(&file, setting).unwrap();
            let (code, _, err) = run(home.path(), &["run", "--check-config", "--config", path]);
            assert_eq!(code, Some(64), "{setting}: {err}");
        }
    }

    #[test]
    fn whoever_asks_for_help_gets_it_and_0() {
        let home = tempfile::tempdir().unwrap();
        for arguments in [&["--help"][..], &["--version"], &["help", "join"], &["init", "--help"]] {
            let (code, out, err) = run(home.path(), arguments);
            assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}");
            assert!(!out.is_empty(), "{arguments:?}");
        }
        let (_, out, _) = run(home.path(), &["--help"]);
        assert!(out.contains("64 bad usage"), "{out}");
    }
}
