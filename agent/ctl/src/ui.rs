//! Where output goes and how it looks: text or JSON on standard output, everything else on standard error.

use std::io::{self, BufRead as _, IsTerminal as _, Write};

use anstream::{AutoStream, ColorChoice};
use serde::Serialize;

pub(crate) use self::table::{Cell, Table, cell, table};
use crate::failure::Failure;
use crate::terminal;

mod table;

/// A terminal that claims to be narrower does not know how wide it is (a serial line says 0): one letter to a line helps nobody.
const WIDTH_MIN: u16 = 20;

/// In which form reads are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people; a narrow terminal gets the columns that matter most.
    Text,
    /// For people, with all columns.
    Wide,
    /// For programs; `agentctl json` describes every document.
    Json,
}

/// Who answers questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// The person at the terminal.
    Person,
    /// Nobody: a question could only hang a script.
    Nobody,
    /// A test, always like this.
    #[cfg(test)]
    Script(bool),
}

/// The output of a command and its conversation with the person in front of it.
pub(crate) struct Ui {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    format: Format,
    quiet: bool,
    /// Who answers questions.
    asks: Asks,
    screen: Screen,
}

/// What there is to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Screen {
    /// Whether standard output shows colours: a terminal, and nobody set `NO_COLOR`.
    colour: bool,
    /// Whether standard error is a terminal: a spinner makes sense.
    live: bool,
    /// How many columns there are; `None` when nobody looks.
    width: Option<u16>,
}

impl Ui {
    /// The process's own streams.
    pub(crate) fn of_process(format: Format, quiet: bool) -> Self {
        let live = io::stderr().is_terminal();
        let colour = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        let width = if io::stdout().is_terminal() { terminal_width() } else { None };
        let asks = if io::stdin().is_terminal() { Asks::Person } else { Asks::Nobody };
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            format,
            quiet,
            asks,
            screen: Screen { colour, live, width },
        }
    }

    /// Whether reads are to be printed as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether a spinner may be drawn.
    pub(crate) const fn is_live(&self) -> bool {
        self.screen.live && !self.quiet
    }

    /// Prints a line of the result.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        let text = text.as_ref();
        if self.screen.colour {
            writeln!(self.out, "{text}")?;
        } else {
            writeln!(self.out, "{}", anstream::adapter::strip_str(text))?;
        }
        Ok(())
    }

    /// Passes on bytes of a command's standard output.
    pub(crate) fn pass_out(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes)?;
        Ok(self.out.flush()?)
    }

    /// Passes on bytes of a command's standard error.
    pub(crate) fn pass_err(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.err.write_all(bytes)?;
        Ok(self.err.flush()?)
    }

    /// Says something that is not part of the result; not with `--quiet`.
    pub(crate) fn note(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        if self.quiet { Ok(()) } else { Ok(writeln!(self.err, "{}", text.as_ref())?) }
    }

    /// Says what could be typed next, now that all is well; not beside JSON, which nobody reads.
    pub(crate) fn next(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        if self.is_json() { Ok(()) } else { self.note(format!("next: {}", text.as_ref())) }
    }

    /// Says something that must be seen even with `--quiet`.
    pub(crate) fn warn(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        Ok(writeln!(self.err, "{}", text.as_ref())?)
    }

    /// Prints a document.
    pub(crate) fn json(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(document).map_err(io::Error::from)?;
        self.line(text)
    }

    /// Prints one document of a stream on one line.
    pub(crate) fn json_line(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(document).map_err(io::Error::from)?;
        self.line(text)
    }

    /// Prints a table that fits the terminal.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), Failure> {
        let room = self.room();
        table.lines(room).iter().try_for_each(|line| self.line(line))
    }

    /// Prints a line of text that is broken between words where the terminal ends, and goes on below column `indent`. Not for what
    /// somebody may copy.
    pub(crate) fn prose(&mut self, text: impl AsRef<str>, indent: usize) -> Result<(), Failure> {
        let text = text.as_ref();
        match self.room() {
            None => self.line(text),
            Some(room) => {
                let lines = table::broken(text, room, &" ".repeat(indent));
                lines.iter().try_for_each(|line| self.line(line))
            }
        }
    }

    /// How wide what is printed may be; `None` where nobody looks, or everything is asked for.
    fn room(&self) -> Option<usize> {
        self.screen.width.map(usize::from).filter(|_| self.format != Format::Wide)
    }

    /// Asks for leave to replace or stop something that can be started again. A script has it: whoever wrote it has decided.
    pub(crate) fn consent(&mut self, what: &str, yes: bool) -> Result<(), Failure> {
        if yes || self.asks == Asks::Nobody { Ok(()) } else { self.ask(what) }
    }

    /// Asks for leave to do what cannot be undone. A script has to say so by `-y`.
    pub(crate) fn consent_for_good(&mut self, what: &str, yes: bool) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        if self.asks == Asks::Nobody {
            let text =
                "standard input is no terminal, so nobody can be asked whether this is meant:";
            return Err(Failure::usage(format!("{text}\n{what}"), "repeat it with -y"));
        }
        self.ask(what)
    }

    fn ask(&mut self, what: &str) -> Result<(), Failure> {
        writeln!(self.err, "{what}")?;
        let answer = match self.asks {
            #[cfg(test)]
            Asks::Script(answer) => answer,
            Asks::Person | Asks::Nobody => {
                write!(self.err, "Go on? [y/N] ")?;
                self.err.flush()?;
                let mut answer = String::new();
                io::stdin().lock().read_line(&mut answer)?;
                matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
            }
        };
        if answer {
            Ok(())
        } else {
            Err(Failure::failed("nothing was changed")
                .next("repeat it with -y to skip the question"))
        }
    }

    /// Makes the screen empty for the next picture of a watch; on a pipe pictures just follow each other.
    pub(crate) fn next_picture(&mut self) -> Result<(), Failure> {
        if self.screen.width.is_some() { self.pass_out(b"\x1b[H\x1b[2J") } else { Ok(()) }
    }
}

fn terminal_width() -> Option<u16> {
    Some(terminal::size().columns).filter(|width| *width >= WIDTH_MIN)
}

/// How a value is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// All is well.
    Good,
    /// Something goes on.
    Busy,
    /// Somebody should look.
    Bad,
    /// Not worth a colour.
    Plain,
}

#[cfg(test)]
pub(crate) mod capture {
    //! Output that a test can read.

    use std::cell::RefCell;
    use std::io::{self, Write};
    use std::rc::Rc;

    use super::{Asks, Format, Screen, Ui};

    /// What was written.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Written(Rc<RefCell<Vec<u8>>>);

    impl Written {
        /// The text so far.
        pub(crate) fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.borrow()).into_owned()
        }
    }

    impl Write for Written {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(buf)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a command printed.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Captured {
        /// On standard output.
        pub(crate) out: Written,
        /// On standard error.
        pub(crate) err: Written,
    }

    impl Captured {
        /// A place to write to, in which every question gets this answer; `None` is a script with nobody to ask.
        pub(crate) fn ui(&self, format: Format, answer: Option<bool>) -> Ui {
            self.ui_at(None, format, answer)
        }

        /// The same in front of a terminal that is so wide.
        pub(crate) fn ui_at(&self, width: Option<u16>, format: Format, answer: Option<bool>) -> Ui {
            Ui {
                out: Box::new(self.out.clone()),
                err: Box::new(self.err.clone()),
                format,
                quiet: false,
                asks: answer.map_or(Asks::Nobody, Asks::Script),
                screen: Screen { colour: false, live: false, width },
            }
        }
    }
}
