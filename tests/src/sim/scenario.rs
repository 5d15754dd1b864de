//! Scenes for tests that want one thing to happen, and not a whole day.
