//! What a manifest is read with, besides its text.

use std::collections::BTreeMap;
use std::path::Path;

use mesh_coordinator::name::AppName;

use crate::interpolate::Lookup;

/// What a manifest is read with.
pub(crate) struct Context<'a> {
    /// Where relative paths begin; `None` for a manifest that came from no file.
    pub(crate) directory: Option<&'a Path>,
    /// The environment of who reads it.
    pub(crate) environment: Lookup<'a>,
    /// The variables of `.env`.
    pub(crate) defaults: BTreeMap<String, String>,
    /// The name that was asked for on the command line; wins over the manifest's.
    pub(crate) name: Option<AppName>,
    /// The name of the directory, for manifests without a name.
    pub(crate) directory_name: Option<String>,
}

impl Context<'_> {
    /// The value of a variable: the real environment wins over `.env`.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).or_else(|| self.defaults.get(name).cloned())
    }
}
