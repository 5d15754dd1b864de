//! The terminal in front of the person: its size, and raw mode while a command in a container has it.

use std::io;

use mesh_ports::runtime::Window;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// What a terminal has that does not know its size: the first ones.
const UNKNOWN: Window = Window { columns: 80, rows: 24 };

/// The size of the terminal on standard output.
pub(crate) fn size() -> Window {
    let size = tcgetwinsize(io::stdout()).ok();
    let known = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or(UNKNOWN, |size| Window { columns: size.ws_col, rows: size.ws_row })
}

/// Every key goes to the command as it is, Ctrl-C too, until this is dropped.
pub(crate) struct Raw(Termios);

impl Raw {
    /// Makes the terminal on standard input raw.
    pub(crate) fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no repair.
        let (Ok(()) | Err(_)) = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
