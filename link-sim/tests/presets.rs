//! Every fault that has a name happens, and everything is answered afterwards.

use std::collections::BTreeSet;

use link_sim::{faults::PRESETS, scenarios};

#[test]
fn every_named_fault_of_a_line_heals() {
    for preset in PRESETS {
        scenarios::run(preset.name, 7);
    }
}

#[test]
fn every_named_accident_of_programs_machines_and_plugs_heals() {
    let lines: BTreeSet<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    for (name, _) in scenarios::all().filter(|(name, _)| !lines.contains(name)) {
        for seed in [1, 7] {
            scenarios::run(name, seed);
        }
    }
}

#[test]
fn an_adversary_who_owns_the_wire_brings_about_nothing_and_service_is_back_when_he_goes() {
    for seed in 0..40 {
        scenarios::run("adversary", seed);
    }
}

#[test]
fn no_two_faults_have_the_same_name() {
    let names: Vec<&str> = scenarios::all().map(|row| row.0).collect();
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names.len(), distinct.len());
    assert!(names.len() > 35, "{names:?}");
}
