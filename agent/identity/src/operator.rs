//! What `agentctl` knows: for each mesh the operator's key and the agents it may talk to.
//!
//! One file, written by `agent init` for the first operator and by `agentctl login` for others, readable by its owner only. Each
//! context in it is one operator of one mesh; one of them is the current one. Keys are in it that exist nowhere else, so
//! whoever changes it holds a lock meanwhile ([`Contexts::edit`]).

mod file;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mesh_coordinator::id::{MeshId, PublicKey};
use mesh_coordinator::name::{MeshName, NAME_LEN_MAX, OperatorName};
use zeroize::Zeroizing;

use crate::keys::KeyPair;
use crate::secret_file::{self, SecretFileError};
use crate::wire::{Fault, host_port};

/// Where the file lies in the directory for configuration files.
const FILE: &str = "agentmesh/operator.json";
/// Room for the number that tells contexts of one name apart.
const SUFFIX_LEN_MAX: usize = 8;

/// An agent that accepts the operator's commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAgent {
    /// `host:port` of its gRPC API.
    pub address: String,
    /// Its key.
    pub key: PublicKey,
}

/// One mesh as one operator sees it.
#[derive(Debug, Clone)]
pub struct Context {
    /// What it is called on this machine: like the mesh, unless another context had that name first or somebody renamed it.
    pub name: MeshName,
    /// The mesh.
    pub mesh: MeshId,
    /// What people call it.
    pub mesh_name: MeshName,
    /// The operator's name.
    pub operator_name: OperatorName,
    /// The operator's key.
    pub operator: KeyPair,
    /// Agents to talk to, in the order in which they are tried.
    pub agents: Vec<KnownAgent>,
}

/// The address of an agent as somebody typed it.
///
/// # Errors
/// When it is not `host:port`.
pub fn parse_address(text: &str) -> Result<String, Fault> {
    host_port("address", text.to_owned())
}

impl Context {
    /// Whether both are the same operator of the same mesh, whatever they are called.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.mesh == other.mesh && self.operator.public() == other.operator.public()
    }
}

/// A key that was made before its owner knew the mesh that it is for.
#[derive(Debug, Clone)]
pub struct Newcomer {
    /// The name that its owner wants.
    pub name: OperatorName,
    /// The key.
    pub key: KeyPair,
}

/// All contexts of an operator.
#[derive(Debug, Clone, Default)]
pub struct Contexts {
    /// The context that is meant when none is named; `None` when there is none, or nobody said which.
    current: Option<MeshName>,
    contexts: Vec<Context>,
    /// The key that waits for its mesh.
    newcomer: Option<Newcomer>,
}

/// Why there is no context.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// There is no such file.
    #[error(
        "there is no {path}: `agent init` writes it on the first server of a mesh, and `agentctl login` on the machine of whoever \
         else works with it"
    )]
    Missing {
        /// Which file.
        path: String,
    },
    /// The file cannot be used. *It is unchanged.*
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The file is not in its format. *It is unchanged.*
    #[error("{path} cannot be read")]
    Syntax {
        /// Which file.
        path: String,
        /// What the parser said, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// A value in the file is impossible. *It is unchanged.*
    #[error("{path}: {fault}")]
    Value {
        /// Which file.
        path: String,
        /// Where in it, and what is wrong.
        fault: Fault,
    },
    /// No context has that name. *Nothing was changed.*
    #[error("there is no context {asked:?}")]
    Unknown {
        /// The name.
        asked: String,
        /// All names.
        known: Vec<String>,
    },
    /// There are contexts, and none of them is the current one.
    #[error("no context is the current one")]
    NoneCurrent,
    /// There is no context at all.
    #[error("no mesh is known")]
    Empty,
    /// Another context has that name. *Nothing was changed.*
    #[error("there is a context {0} already")]
    Taken(MeshName),
}

/// Where the file is unless somebody says otherwise: in `$XDG_CONFIG_HOME`, or in `~/.config`. `None` without a home directory.
#[must_use]
pub fn default_path() -> Option<PathBuf> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let directory = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    Some(directory?.join(FILE))
}

impl Contexts {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is missing, open to others, or says something impossible; the message names file and key.
    pub fn load(path: &Path) -> Result<Self, ContextError> {
        match secret_file::read(path) {
            Ok(content) => Self::parse(&content, path),
            Err(SecretFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(ContextError::Missing { path: path.display().to_string() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads what such a file holds from elsewhere; `path` is what that is called in messages.
    ///
    /// # Errors
    /// When it cannot be read or says something impossible.
    pub fn read(from: impl io::Read, path: &Path) -> Result<Self, ContextError> {
        Self::parse(&secret_file::read_all(from).map_err(failed("read", path))?, path)
    }

    fn parse(content: &str, path: &Path) -> Result<Self, ContextError> {
        let path = path.display().to_string();
        file::read(content).map_err(|error| match error {
            file::ReadError::Syntax(source) => ContextError::Syntax { path, source },
            file::ReadError::Value(fault) => ContextError::Value { path, fault },
        })
    }

    /// Reads the file, or knows no mesh when there is none.
    ///
    /// # Errors
    /// When there is a file that cannot be used.
    pub fn load_or_empty(path: &Path) -> Result<Self, ContextError> {
        match Self::load(path) {
            Err(ContextError::Missing { .. }) => Ok(Self::default()),
            other => other,
        }
    }

    /// Reads the file or begins one, lets `change` change it, and writes it; nobody else who does the same comes in between.
    ///
    /// # Errors
    /// When the file cannot be used, or when `change` fails; then it is unchanged.
    pub fn edit<T, E: From<ContextError>>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        make_directory(path)?;
        let lock = lock(path)?;
        let mut contexts = Self::load_or_empty(path)?;
        let changed = change(&mut contexts)?;
        contexts.save(path)?;
        drop(lock);
        Ok(changed)
    }

    /// Writes the file for its owner only, with its directory when that is missing, and returns when it would survive a power
    /// failure.
    ///
    /// # Errors
    /// When it cannot be written; then the old file is unchanged.
    pub fn save(&self, path: &Path) -> Result<(), ContextError> {
        make_directory(path)?;
        Ok(secret_file::replace(path, self.to_text()?.as_bytes())?)
    }

    /// What the file says. It holds private keys: wiped when dropped.
    ///
    /// # Errors
    /// Never with today's form of the file.
    pub fn to_text(&self) -> Result<Zeroizing<String>, ContextError> {
        file::to_text(self)
            .map_err(|source| ContextError::Syntax { path: "the new file".to_owned(), source })
    }

    /// Adds a context, or puts new knowledge of it in the place of the old, and makes it the current one. Returns the name that
    /// it has now.
    pub fn add(&mut self, mut context: Context) -> MeshName {
        let same = self.contexts.iter().position(|known| known.is_same(&context));
        context.name = match same.and_then(|place| self.contexts.get(place)) {
            Some(known) => known.name.clone(),
            None => self.free_name(&context.name),
        };
        let name = context.name.clone();
        self.current = Some(name.clone());
        self.contexts.retain(|known| known.name != name);
        self.contexts.push(context);
        name
    }

    /// `name`, or the first of `name-2`, `name-3` and so on that no context has.
    fn free_name(&self, name: &MeshName) -> MeshName {
        let is_free = |name: &MeshName| self.contexts.iter().all(|known| known.name != *name);
        let cut: String = name.as_str().chars().take(NAME_LEN_MAX - SUFFIX_LEN_MAX).collect();
        let numbered = (2..=self.contexts.len().saturating_add(2))
            .filter_map(|number| format!("{cut}-{number}").parse().ok());
        [name.clone()].into_iter().chain(numbered).find(is_free).unwrap_or_else(|| name.clone())
    }

    /// Puts new knowledge in the place of the context of that name; which one is current does not change. False when the context
    /// is not there any more, or is somebody else's.
    pub fn update(&mut self, context: Context) -> bool {
        let known = self.contexts.iter_mut().find(|known| known.name == context.name);
        match known.filter(|known| known.is_same(&context)) {
            Some(known) => {
                *known = context;
                true
            }
            None => false,
        }
    }

    /// All contexts, in the order in which they were added.
    #[must_use]
    pub fn all(&self) -> &[Context] {
        &self.contexts
    }

    /// The name of the current context.
    #[must_use]
    pub const fn current(&self) -> Option<&MeshName> {
        self.current.as_ref()
    }

    /// The context of that name, or the current one.
    ///
    /// # Errors
    /// When there is none.
    pub fn select(&self, name: Option<&str>) -> Result<&Context, ContextError> {
        let wanted = match (name, &self.current) {
            (Some(name), _) => name,
            (None, Some(current)) => current.as_str(),
            (None, None) if self.contexts.is_empty() => return Err(ContextError::Empty),
            (None, None) => return Err(ContextError::NoneCurrent),
        };
        self.place(wanted).and_then(|place| self.contexts.get(place).ok_or(ContextError::Empty))
    }

    fn place(&self, name: &str) -> Result<usize, ContextError> {
        let place = self.contexts.iter().position(|known| known.name.as_str() == name);
        place.ok_or_else(|| ContextError::Unknown {
            asked: name.to_owned(),
            known: self.contexts.iter().map(|known| known.name.to_string()).collect(),
        })
    }

    /// Makes a context the current one.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn make_current(&mut self, name: &str) -> Result<(), ContextError> {
        self.current = Some(self.select(Some(name))?.name.clone());
        Ok(())
    }

    /// Forgets a context with its key. When it was the current one, the only other one becomes it; of several, none does.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn remove(&mut self, name: &str) -> Result<Context, ContextError> {
        let place = self.place(name)?;
        let removed = self.contexts.remove(place);
        if self.current.as_ref() == Some(&removed.name) {
            self.current = match self.contexts.as_slice() {
                [only] => Some(only.name.clone()),
                _ => None,
            };
        }
        Ok(removed)
    }

    /// Calls a context by another name.
    ///
    /// # Errors
    /// When there is none of that name, or when another one has the new name.
    pub fn rename(&mut self, name: &str, new: MeshName) -> Result<(), ContextError> {
        let place = self.place(name)?;
        if self.contexts.iter().any(|known| known.name == new && known.name.as_str() != name) {
            return Err(ContextError::Taken(new));
        }
        if self.current.as_ref().is_some_and(|current| current.as_str() == name) {
            self.current = Some(new.clone());
        }
        if let Some(context) = self.contexts.get_mut(place) {
            context.name = new;
        }
        Ok(())
    }

    /// The key that waits for its mesh.
    #[must_use]
    pub const fn newcomer(&self) -> Option<&Newcomer> {
        self.newcomer.as_ref()
    }

    /// Keeps a key until its mesh is known, or forgets it because it has found its mesh.
    pub fn set_newcomer(&mut self, newcomer: Option<Newcomer>) {
        self.newcomer = newcomer;
    }
}

/// Writes contexts to a new file that only its owner can read.
///
/// # Errors
/// When the file exists already or cannot be written; then there is no new file.
pub fn export(contexts: &Contexts, path: &Path) -> Result<(), ContextError> {
    Ok(secret_file::write_new(path, contexts.to_text()?.as_bytes())?)
}

fn failed<'a>(
    attempt: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> ContextError + 'a {
    move |source| SecretFileError::Io { attempt, path: path.display().to_string(), source }.into()
}

fn make_directory(path: &Path) -> Result<(), ContextError> {
    let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(failed("create", directory))
}

/// Holds off everybody else who edits the file until it is dropped. A file of its own, since the real one is replaced.
fn lock(path: &Path) -> Result<File, ContextError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&name).map_err(failed("open", &name))?;
    file.lock().map_err(failed("lock", &name))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
