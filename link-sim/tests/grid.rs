//! Goodput by error rate and latency, compared with what it was: on virtual time the figures are
//! exact, so any change of the link shows here as a readable difference.
//!
//! A change that is meant: `cargo run -p link-sim -- grid > link-sim/tests/grid.txt`.

use link_sim::grid::Grid;

#[test]
fn goodput_by_error_rate_and_latency_is_what_it_was() {
    let grid = Grid::measure();
    let expected = include_str!("grid.txt");
    assert_eq!(grid.table(), expected, "if this is meant: link-sim grid > link-sim/tests/grid.txt");
    for cell in grid.cells() {
        assert!((0.0..=1.0).contains(&cell.goodput), "{cell:?}");
    }
}
