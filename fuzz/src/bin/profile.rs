//! libFuzzer on the target of this name; it must do nothing else.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::targets::profile::run(bytes));
