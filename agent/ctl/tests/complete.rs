//! agentctl as a shell calls it when the Tab key is pressed, and the manual.

#[cfg(test)]
mod complete {
    //! See above.

    use std::net::TcpListener;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output, Stdio};
    use std::time::{Duration, Instant};

    use mesh_coordinator::id::{Hash, MeshId};
    use mesh_identity::keys::KeyPair;
    use mesh_identity::operator::{Context, Contexts, KnownAgent};

    const PROGRAM: &str = env!("CARGO_BIN_EXE_agentctl");

    /// A home directory with two contexts; the agents of both are said to be here.
    fn home_with_agent_at(address: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let mut contexts = Contexts::default();
        for (name, number) in [("prod", 1_u8), ("test", 2)] {
            let agent = KeyPair::from_seed(&[100; 32]).public();
            contexts.add(Context {
                name: name.parse().unwrap(),
                mesh: MeshId(Hash([number; 32])),
                mesh_name: "mesh".parse().unwrap(),
                operator_name: "ada".parse().unwrap(),
                operator: KeyPair::from_seed(&[number; 32]),
                agents: vec![KnownAgent { address: address.to_owned(), key: agent }],
            });
        }
        contexts.save(&file(home.path())).unwrap();
        home
    }

    fn file(home: &Path) -> PathBuf {
        home.join(".config/agentmesh/operator.json")
    }

    fn agentctl(home: &Path) -> Command {
        let mut agentctl = Command::new(PROGRAM);
        agentctl.env_clear().env("HOME", home).current_dir(home).stdin(Stdio::null());
        agentctl
    }

    /// What is offered after these words, as fish asks; nothing may be said or fail.
    fn offered(home: &Path, words: &[&str]) -> Vec<String> {
        let mut shell = agentctl(home);
        shell.env("AGENTCTL_COMPLETE", "fish").args(["--", "agentctl"]).args(words);
        let Output { status, stdout, stderr } = shell.output().unwrap();
        assert_eq!((status.code(), stderr.as_slice()), (Some(0), &b""[..]), "{words:?}");
        let lines = String::from_utf8(stdout).unwrap();
        lines.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn commands_and_options_are_offered_without_a_mesh() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(offered(home.path(), &["dr"]), ["drain"]);
        assert_eq!(offered(home.path(), &["ps", "--wa"]), ["--watch"]);
        assert_eq!(offered(home.path(), &["operator", "add", "ben", "--role", "d"]), ["deployer"]);
        let commands = offered(home.path(), &[""]);
        assert!(commands.contains(&"place".to_owned()), "{commands:?}");
        assert!(!commands.iter().any(|it| it.starts_with('-') || it == "man"), "{commands:?}");
        let options = offered(home.path(), &["nodes", ""]);
        assert!(
            options.contains(&"--output".to_owned()),
            "where there is nothing else: {options:?}"
        );
        assert_eq!(offered(home.path(), &["ps", ""]).first().map(String::as_str), Some("--watch"));
        assert!(!home.path().join(".config").exists(), "nothing is written");
    }

    #[test]
    fn contexts_and_addresses_are_offered_offline() {
        let home = home_with_agent_at("127.0.0.1:1");
        assert_eq!(offered(home.path(), &["context", "use", ""]), ["prod", "test"]);
        assert_eq!(offered(home.path(), &["ps", "--context", "t"]), ["test"]);
        assert_eq!(offered(home.path(), &["--context=t"]), ["--context=test"]);
        assert_eq!(offered(home.path(), &["--context", "prod", "--agent", ""]), ["127.0.0.1:1"]);
        let elsewhere = home.path().join("elsewhere.json");
        std::fs::rename(file(home.path()), &elsewhere).unwrap();
        assert!(offered(home.path(), &["context", "use", ""]).iter().all(|it| it.starts_with('-')));
        let path = elsewhere.to_str().unwrap();
        assert_eq!(offered(home.path(), &["--config", path, "context", "rm", "p"]), ["prod"]);
    }

    #[test]
    fn manifests_are_offered_where_an_app_is_placed() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("blog")).unwrap();
        for name in ["blog.yaml", "blog.txt"] {
            std::fs::write(home.path().join(name), "").unwrap();
        }
        assert_eq!(offered(home.path(), &["place", "./bl"]), ["./blog.yaml", "./blog/"]);
    }

    #[test]
    fn a_mesh_that_does_not_answer_offers_nothing_and_soon() {
        // It accepts connections, and then nothing comes.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent_address = silent.local_addr().unwrap().to_string();
        for address in ["127.0.0.1:1", silent_address.as_str()] {
            let home = home_with_agent_at(address);
            let before = std::fs::read(file(home.path())).unwrap();
            let begun = Instant::now();
            for words in [&["ps", "h"][..], &["drain", "a"], &["why", "hello/w"], &["scale", "w"]] {
                assert_eq!(offered(home.path(), words), Vec::<String>::new(), "{words:?}");
            }
            assert_eq!(offered(home.path(), &["operator", "rm", "b"]), Vec::<String>::new());
            // Five times 0.8 s, and what a busy machine adds.
            assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
            assert_eq!(std::fs::read(file(home.path())).unwrap(), before);
            let folder = std::fs::read_dir(file(home.path()).parent().unwrap()).unwrap();
            assert_eq!(folder.count(), 1, "nothing is written");
        }
    }

    #[test]
    fn the_variable_alone_does_not_keep_a_command_from_running() {
        let home = tempfile::tempdir().unwrap();
        let ran = agentctl(home.path()).env("AGENTCTL_COMPLETE", "bash").arg("json").output();
        let text = String::from_utf8(ran.unwrap().stdout).unwrap();
        assert!(text.starts_with('#') && !text.contains("COMPREPLY"), "{text}");
    }

    fn script(home: &Path, shell: &str) -> String {
        let ran = agentctl(home).args(["completions", shell]).output().unwrap();
        assert!(ran.status.success());
        String::from_utf8(ran.stdout).unwrap()
    }

    /// What bash puts in the place of the last of these words, of which `=` and `:` are some.
    fn offered_by_bash(home: &Path, line: &str, words: &[&str], current: &str) -> String {
        let path = home.join("agentctl.bash");
        std::fs::write(&path, script(home, "bash")).unwrap();
        let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let asked = format!(
            "set -u; . {}; COMP_LINE='{line}' COMP_POINT={} COMP_WORDS=({}) COMP_CWORD={}\n\
             _agentctl agentctl '{current}' ''; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            path.display(),
            line.len(),
            words.join(" "),
            words.len() - 1
        );
        let bin = Path::new(PROGRAM).parent().unwrap().display();
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &asked]).env_clear().env("HOME", home);
        let ran = bash.env("PATH", format!("{bin}:/usr/bin:/bin")).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stderr), "", "{asked}");
        String::from_utf8(ran.stdout).unwrap().trim_end().to_owned()
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "says what is missing to run the test")]
    fn bash_accepts_the_script_and_completes_across_colons() {
        if Command::new("bash").arg("--version").output().is_err() {
            println!("skipped: bash");
            return;
        }
        let home = home_with_agent_at("127.0.0.1:7420");
        let path = home.path().join("agentctl.bash");
        std::fs::write(&path, script(home.path(), "bash")).unwrap();
        let checked = Command::new("bash").arg("-n").arg(&path).output().unwrap();
        assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");

        let bash = |line: &str, words: &[&str], current: &str| {
            offered_by_bash(home.path(), line, words, current)
        };
        assert_eq!(bash("agentctl dr", &["agentctl", "dr"], "dr"), "drain");
        assert_eq!(
            bash("agentctl context use ", &["agentctl", "context", "use", ""], ""),
            "prod\ntest"
        );
        let words = ["agentctl", "--agent", "127.0.0.1", ":"];
        assert_eq!(bash("agentctl --agent 127.0.0.1:", &words, ""), "7420");
        let words = ["agentctl", "--agent", "127.0.0.1", ":", "74"];
        assert_eq!(bash("agentctl --agent 127.0.0.1:74", &words, "74"), "7420");
        let words = ["agentctl", "ps", "--context", "=", "te"];
        assert_eq!(bash("agentctl ps --context=te", &words, "te"), "test");
        let words = ["agentctl", "--agent", "10.0.0.1", ":", "1", "context", "use", "p"];
        assert_eq!(bash("agentctl --agent 10.0.0.1:1 context use p", &words, "p"), "prod");
    }

    #[test]
    fn every_command_has_a_page_in_the_manual() {
        let home = tempfile::tempdir().unwrap();
        let pages = home.path().join("man1");
        let ran = agentctl(home.path()).arg("man").arg(&pages).output().unwrap();
        let err = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(2));
        assert!(err.contains("next: mkdir -p"), "{err}");
        std::fs::create_dir(&pages).unwrap();
        assert!(agentctl(home.path()).arg("man").arg(&pages).status().unwrap().success());
        let help = agentctl(home.path()).arg("--help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let commands: Vec<&str> = commands
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .collect();
        assert!(commands.len() > 20, "{commands:?}");
        for command in commands {
            assert!(pages.join(format!("agentctl-{command}.1")).is_file(), "{command}");
        }
        let mut names = std::fs::read_dir(&pages).unwrap();
        assert!(names.all(|page| !page.unwrap().file_name().to_string_lossy().contains("-help")));
    }
}
