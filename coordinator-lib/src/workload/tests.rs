//! A replica starts, proves itself, is started again and stops.
