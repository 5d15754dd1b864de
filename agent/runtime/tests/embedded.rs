//! The embedded driver with real containers: namespaces, cgroups, overlay mounts and all. Needs root; without it every test
//! says what is missing and passes.

#[cfg(test)]
mod confinement;
#[cfg(test)]
mod conversation;
#[cfg(test)]
mod fence;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod guard;
#[cfg(test)]
mod life;
#[cfg(test)]
mod question;
#[cfg(test)]
mod stuck;
#[cfg(test)]
mod volume;
