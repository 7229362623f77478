//! The documents say what the program does.

mod common;

use common::microtome;

#[test]
fn the_page_on_configuration_holds_what_the_program_prints() {
    let page = include_str!("../../../docs/config.md");
    let folder = tempfile::tempdir().unwrap();
    let printed = microtome(folder.path(), &["nuclei", "config"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    assert!(printed.stdout.lines().count() > 60, "{printed:?}");
    assert!(
        page.contains(&printed.stdout),
        "write the output of `microtome nuclei config` into docs/config.md"
    );
}
