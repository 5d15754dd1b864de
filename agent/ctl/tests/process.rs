//! agentctl as a process: exit codes, and what goes to which stream.

#[cfg(test)]
mod process {
    //! See above.

    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output, Stdio};

    use mesh_coordinator::id::{Hash, MeshId};
    use mesh_identity::keys::KeyPair;
    use mesh_identity::operator::{Context, Contexts, KnownAgent};

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
        for arguments in [
            &["plaice"][..],
            &["scale", "web"],
            &["node", "label", "alpha", "x"],
            &["ps", "--agent", "alpha"],
        ] {
            let (code, out, err) = run(home.path(), arguments);
            assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        }
        let (_, _, err) = run(home.path(), &["plaice"]);
        assert!(err.contains("'place'"), "a similar command is suggested: {err}");
    }

    #[test]
    fn a_terminal_cannot_be_passed_on_where_there_is_none() {
        let home = home_with(&["office"]);
        let (code, _, err) = run(home.path(), &["exec", "-it", "web", "--", "sh"]);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains("leave out -t"), "{err}");
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

    const PIN: &str = "pin1-bmcqs";

    fn done(home: &Path, arguments: &[&str]) -> (String, String) {
        let (code, out, err) = run(home, arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
        (out, err)
    }

    /// A home directory with contexts of these names, each of a mesh of its own, the last one the current one.
    fn home_with(names: &[&str]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let mut contexts = Contexts::default();
        for (name, number) in names.iter().zip(1_u8..) {
            let agent = KeyPair::from_seed(&[100; 32]).public();
            contexts.add(Context {
                name: name.parse().unwrap(),
                mesh: MeshId(Hash([number; 32])),
                mesh_name: "prod".parse().unwrap(),
                operator_name: "ada".parse().unwrap(),
                operator: KeyPair::from_seed(&[number; 32]),
                agents: vec![KnownAgent { address: "127.0.0.1:1".to_owned(), key: agent }],
            });
        }
        contexts.save(&home.path().join(".config/agentmesh/operator.json")).unwrap();
        home
    }

    fn names(home: &Path) -> Vec<String> {
        let (out, _) = done(home, &["context", "ls"]);
        let lines = out.lines().skip(1);
        lines.map(|line| line.split("  ").next().unwrap().trim().to_owned()).collect()
    }

    #[test]
    fn a_login_without_a_mesh_makes_one_key_and_says_what_an_admin_types() {
        let home = tempfile::tempdir().unwrap();
        let (first, err) = done(home.path(), &["login", "--name", "ben", "--role", "deployer"]);
        assert!(first.starts_with("agentctl operator add ben --role deployer --key "), "{first}");
        assert!(err.contains("operator.json and stays there"), "{err}");
        let (again, _) = done(home.path(), &["login", "--role", "deployer"]);
        assert_eq!(first, again, "the key is made once");
        let file = home.path().join(".config/agentmesh/operator.json");
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        let (code, _, err) = run(home.path(), &["ps"]);
        assert_eq!(code, Some(2));
        assert!(err.contains("no mesh is known") && err.contains("agentctl login"), "{err}");
    }

    #[test]
    fn a_login_takes_nobodys_word() {
        let home = tempfile::tempdir().unwrap();
        let cases = [
            (&["login", "10.0.0.1:7420"][..], "--pin"),
            (&["login", "--pin", PIN], "agentctl login HOST:PORT"),
            (&["login", "10.0.0.1:7420", "--pin", PIN], "not complete"),
            (&["login", "10.0.0.1:7420", "--pin", "mesh1-abc"], "join token"),
            (&["login", "10.0.0.1", "--pin", PIN], "not host:port"),
        ];
        for (arguments, reason) in cases {
            let (code, _, err) = run(home.path(), arguments);
            assert_eq!(code, Some(2), "{arguments:?}: {err}");
            assert!(err.contains(reason), "{arguments:?}: {err}");
        }
        assert!(!home.path().join(".config").exists(), "and nothing is left of it");
    }

    #[test]
    fn a_login_at_an_agent_that_is_silent_is_kept_and_said_to_be_unfinished() {
        let home = tempfile::tempdir().unwrap();
        let admin = home_with(&["prod"]);
        let (shown, _) = done(admin.path(), &["context", "show"]);
        let line =
            shown.lines().find_map(|line| line.strip_prefix("for others   agentctl ")).unwrap();
        let (key, _) = done(home.path(), &["login", "--name", "ben"]);
        let arguments: Vec<&str> = line.split(' ').collect();
        let (code, out, err) = run(home.path(), &arguments);
        assert_eq!(code, Some(3), "{err}");
        assert_eq!(out, key, "the key that waited is the one");
        assert!(err.contains("127.0.0.1:1: refuses connections"), "{err}");
        assert_eq!(names(home.path()), ["prod *"]);
    }

    #[test]
    fn contexts_are_used_renamed_and_removed() {
        let home = home_with(&["prod", "test"]);
        assert_eq!(names(home.path()), ["prod", "test *"]);
        done(home.path(), &["context", "use", "prod"]);
        done(home.path(), &["context", "rename", "prod", "work"]);
        assert_eq!(names(home.path()), ["work *", "test"]);
        for arguments in [
            &["context", "use", "tset"][..],
            &["ps", "--context", "tset"],
            &["context", "rm", "tset", "-y"],
        ] {
            let (code, _, err) = run(home.path(), arguments);
            assert_eq!(code, Some(2), "{arguments:?}");
            assert!(err.contains("did you mean test?"), "{arguments:?}: {err}");
        }
        let (code, _, err) = run(home.path(), &["context", "rename", "work", "test"]);
        assert!(code == Some(2) && err.contains("there is a context test already"), "{err}");
        let (code, _, err) = run(home.path(), &["context", "rm", "work"]);
        assert!(code == Some(2) && err.contains("repeat it with -y"), "{err}");
        done(home.path(), &["context", "rm", "work", "-y"]);
        assert_eq!(names(home.path()), ["test *"]);
        let mut by_name = agentctl(home.path(), &["context", "show"]);
        let shown = by_name.env("AGENTCTL_CONTEXT", "work").output().unwrap();
        assert_eq!(shown.status.code(), Some(2), "the environment names a context as well");
    }

    #[test]
    fn an_exported_context_works_on_a_second_machine() {
        let (one, other) = (home_with(&["prod", "test"]), home_with(&["prod"]));
        let file = one.path().join("export.json");
        let name = file.to_str().unwrap();
        let (code, _, err) = run(one.path(), &["context", "export", name, "--context", "test"]);
        assert!(code == Some(2) && err.contains("private key"), "{err}");
        let (_, err) = done(one.path(), &["context", "export", name, "-y", "--context", "test"]);
        assert!(err.contains("holds your private key"), "{err}");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let (code, _, err) = run(one.path(), &["context", "export", name, "-y"]);
        assert!(code == Some(2) && err.contains("exists already"), "{err}");

        done(other.path(), &["context", "import", name]);
        assert_eq!(names(other.path()), ["prod", "test *"]);
        let (json, _) = done(one.path(), &["context", "export", "-", "-y", "--context", "prod"]);
        let mut import = agentctl(other.path(), &["context", "import", "-"]);
        let mut import = import.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        import.stdin.take().unwrap().write_all(json.as_bytes()).unwrap();
        assert!(import.wait().unwrap().success());
        // The same operator of the same mesh is not taken over twice.
        assert_eq!(names(other.path()), ["test", "prod *"]);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let (code, _, err) = run(other.path(), &["context", "import", name]);
        assert!(code == Some(2) && err.contains("chmod 600"), "{err}");
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
