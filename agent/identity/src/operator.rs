//! What `agentctl` knows: for each mesh the operator's key and the agents it may talk to.
//!
//! One file, written by `agent init` for the first operator, readable by its owner only. Several meshes have their place in it;
//! one of them is the current one.

mod file;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use mesh_coordinator::id::{MeshId, PublicKey};
use mesh_coordinator::name::{MeshName, OperatorName};

use crate::keys::KeyPair;
use crate::secret_file::{self, SecretFileError};
use crate::wire::Fault;

/// Where the file lies in the directory for configuration files.
const FILE: &str = "agentmesh/operator.json";

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

/// All meshes that an operator knows.
#[derive(Debug, Clone, Default)]
pub struct Contexts {
    /// The mesh that is meant when none is named; `None` only while there is none at all.
    current: Option<MeshId>,
    contexts: Vec<Context>,
}

/// Why there is no context.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// There is no such file.
    #[error(
        "there is no {path}: `agent init` writes it on the first server, or copy it from where it was written"
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
    /// No mesh of that name is known.
    #[error("no mesh named {asked:?} is known; known are: {known}")]
    Unknown {
        /// The name.
        asked: String,
        /// All known names.
        known: String,
    },
    /// No mesh is known at all, or two have that name.
    #[error("{0}")]
    Ambiguous(&'static str),
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
        let name = || path.display().to_string();
        let content = match secret_file::read(path) {
            Ok(content) => content,
            Err(SecretFileError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                return Err(ContextError::Missing { path: name() });
            }
            Err(error) => return Err(error.into()),
        };
        let file = serde_json::from_str(&content)
            .map_err(|source| ContextError::Syntax { path: name(), source })?;
        file::read(file).map_err(|fault| ContextError::Value { path: name(), fault })
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

    /// Writes the file for its owner only, with its directory when that is missing, and returns when it would survive a power
    /// failure.
    ///
    /// # Errors
    /// When it cannot be written; then the old file is unchanged.
    pub fn save(&self, path: &Path) -> Result<(), ContextError> {
        let failed = |source: std::io::Error| SecretFileError::Io {
            attempt: "write",
            path: path.display().to_string(),
            source,
        };
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        }
        let text = file::to_text(self).map_err(|error| failed(error.into()))?;
        Ok(secret_file::replace(path, text.as_bytes())?)
    }

    /// Adds a mesh, or puts new knowledge of it in the place of the old, and makes it the current one.
    pub fn put(&mut self, context: Context) {
        self.current = Some(context.mesh);
        self.contexts.retain(|known| known.mesh != context.mesh);
        self.contexts.push(context);
    }

    /// All meshes, in the order in which they were added.
    #[must_use]
    pub fn all(&self) -> &[Context] {
        &self.contexts
    }

    /// The mesh of that name, or the current one.
    ///
    /// # Errors
    /// When there is none, or two that the name fits.
    pub fn select(&self, name: Option<&str>) -> Result<&Context, ContextError> {
        let Some(name) = name else {
            let current = self.contexts.iter().find(|known| Some(known.mesh) == self.current);
            return current.ok_or(ContextError::Ambiguous("no mesh is known"));
        };
        let mut fitting = self.contexts.iter().filter(|known| known.mesh_name.as_str() == name);
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => Err(ContextError::Ambiguous("two known meshes have that name")),
            (None, _) => {
                let known: Vec<_> = self.contexts.iter().map(|c| c.mesh_name.as_str()).collect();
                let (asked, known) = (name.to_owned(), known.join(", "));
                Err(ContextError::Unknown { asked, known })
            }
        }
    }
}

#[cfg(test)]
mod tests;
