//! What a shell reads once, so that it asks agentctl for candidates.

use std::io;

use clap_complete::Shell;
use clap_complete::env::Shells;

use super::VARIABLE;

/// The program, as it is typed and as it is found on the path.
const PROGRAM: &str = "agentctl";
/// Bash has one of our own, since it takes `=` and `:` for the ends of words: addresses and images would not be completed.
const BASH: &str = include_str!("script/agentctl.bash");
/// Zsh loads the script when Tab is pressed for the first time, and expects candidates at once.
const ZSH_FIRST_TIME: &str = "
if [ \"$funcstack[1]\" = _agentctl ]; then
    _clap_dynamic_completer_agentctl \"$@\"
fi
";

/// The script for a shell.
pub(crate) fn of(shell: Shell) -> io::Result<Vec<u8>> {
    if shell == Shell::Bash {
        return Ok(BASH.as_bytes().to_vec());
    }
    let shells = Shells::builtins();
    let name = shell.to_string();
    let unknown = || io::Error::new(io::ErrorKind::Unsupported, name.clone());
    let completer = shells.completer(&name).ok_or_else(unknown)?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    if shell == Shell::Zsh {
        script.extend_from_slice(ZSH_FIRST_TIME.as_bytes());
    }
    Ok(script)
}

#[cfg(test)]
mod tests {
    //! Every shell that can be named has a script.

    use clap::ValueEnum as _;
    use clap_complete::Shell;

    use super::{VARIABLE, of};

    #[test]
    fn every_shell_asks_agentctl() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(of(*shell).unwrap()).unwrap();
            assert!(script.contains(VARIABLE), "{shell}: {script}");
            assert!(script.contains("agentctl"), "{shell}: {script}");
        }
    }

    #[test]
    fn what_zsh_calls_the_first_time_is_there() {
        let script = String::from_utf8(of(Shell::Zsh).unwrap()).unwrap();
        assert!(script.starts_with("#compdef agentctl\n"), "{script}");
        assert!(script.contains("function _clap_dynamic_completer_agentctl() {"), "{script}");
    }
}
