//! Remote write and exposition text to an appender; limits and validation.
