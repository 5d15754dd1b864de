//! Who is believed to be alive, and on whose word.
