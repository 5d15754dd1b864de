//! The installer: what it puts in place for people, and that it takes the same away again.

#[cfg(test)]
mod install {
    //! In a mount namespace of its own, over empty directories; the agent in it is a script.

    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output};

    const PROGRAM: &str = env!("CARGO_BIN_EXE_agentctl");
    /// Hides what the installer could change: what it writes is forgotten, and no systemd of this host is seen.
    const APART: &str = "mount -t tmpfs none /run && mount -t tmpfs none /usr/local && \
        for d in /etc /var/lib; do \
            mkdir -p /run/over$d /run/work$d && \
            mount -t overlay none -o lowerdir=$d,upperdir=/run/over$d,workdir=/run/work$d $d || exit; \
        done && echo READY";

    /// Runs shell commands where nothing of this host can be changed; `None` when that is impossible here.
    #[expect(clippy::print_stdout, reason = "says what is missing to run the test")]
    fn apart(folder: &Path, commands: &str) -> Option<(bool, String)> {
        let ran = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg(format!("{{ {APART}; }} && {{ {commands}; }}"))
            .current_dir(folder)
            .output();
        let Ok(Output { status, stdout, stderr }) = ran else {
            println!("skipped: unshare");
            return None;
        };
        let text = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        if let Some((_, said)) = text.split_once("READY\n") {
            return Some((status.success(), said.to_owned()));
        }
        println!("skipped: a mount namespace of its own: {text}");
        None
    }

    /// A folder with the installer and two programs.
    fn release() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let deploy = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
        for name in ["install", "agentmesh-agent.service"] {
            std::fs::copy(deploy.join(name), folder.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink(PROGRAM, folder.path().join("agentctl")).unwrap();
        let agent = folder.path().join("agent");
        std::fs::write(&agent, "#!/bin/sh\necho agent 0\n").unwrap();
        std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    const LIST: &str = "find /usr/local -type f | sort";

    #[test]
    fn what_is_installed_for_people_is_removed_again() {
        let folder = release();
        let Some((done, text)) = apart(
            folder.path(),
            &format!(
                "./install && {LIST} && stat -c %a /usr/local/share/man/man1/agentctl.1 && \
                 touch /usr/local/share/man/man1/other.1 /usr/local/share/man/man1/agentctl-gone.1 && \
                 ./install >/dev/null && echo AGAIN && {LIST} && ./install --remove && echo LEFT && {LIST}"
            ),
        ) else {
            return;
        };
        assert!(done, "{text}");
        assert!(!text.contains("warning"), "{text}");
        let (installed, rest) = text.split_once("AGAIN\n").unwrap();
        for file in [
            "bin/agentctl",
            "share/bash-completion/completions/agentctl",
            "share/zsh/site-functions/_agentctl",
            "share/fish/vendor_completions.d/agentctl.fish",
            "share/man/man1/agentctl.1",
            "share/man/man1/agentctl-node-label.1",
        ] {
            assert!(installed.contains(&format!("/usr/local/{file}\n")), "{file}: {installed}");
        }
        assert!(installed.contains("\n644\n"), "{installed}");
        let (again, rest) = rest.split_once("removed the programs").unwrap();
        assert!(!again.contains("agentctl-gone.1"), "a page of a command that is no more: {again}");
        let (_, left) = rest.split_once("LEFT\n").unwrap();
        assert_eq!(left, "/usr/local/share/man/man1/other.1\n");
    }

    #[test]
    fn a_server_without_room_for_the_manual_is_installed_all_the_same() {
        let folder = release();
        // A file where a directory is wanted: neither the manual nor the completions of bash can be written.
        let Some((done, text)) = apart(
            folder.path(),
            &format!(
                "mkdir /usr/local/share && touch /usr/local/share/man /usr/local/share/bash-completion && \
                 ./install && {LIST}"
            ),
        ) else {
            return;
        };
        assert!(done, "{text}");
        assert!(text.contains("install: warning: no completions for bash"), "{text}");
        assert!(text.contains("install: warning: no manual"), "{text}");
        assert!(text.contains("/usr/local/bin/agentctl\n"), "{text}");
        assert!(text.contains("/usr/local/share/zsh/site-functions/_agentctl\n"), "{text}");
    }
}
