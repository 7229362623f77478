//! The floors of the house: which crate may depend on which, held against the manifests.
//!
//! The table is the one that ARCHITECTURE.md explains. Dependencies of tests are free.

use crate::outcome::Outcome;
use std::path::Path;
use toml::{Table, Value};

/// A crate and what it may name.
struct Room {
    name: &'static str,
    folder: &'static str,
    floor: u8,
    /// Crates of this house.
    house: &'static [&'static str],
    /// Crates from elsewhere.
    outside: Outside,
    /// Rooms that are not furnished yet may be absent.
    must_exist: bool,
}

/// Which crates from elsewhere a room may name.
enum Outside {
    /// Any that is not reserved for another room.
    Unreserved,
    /// These and no others.
    Only(&'static [&'static str]),
}

#[rustfmt::skip] // A table is read by its columns.
const ROOMS: &[Room] = &[
    Room { floor: 0, name: "microtome-kernels", folder: "crates/kernels",   house: &[],                                           outside: Outside::Only(&["rayon", "libc"]), must_exist: true },
    Room { floor: 0, name: "microtome-vault",   folder: "crates/vault",     house: &[],                                           outside: Outside::Only(&["sha2"]),          must_exist: true },
    Room { floor: 1, name: "microtome-slide",   folder: "crates/slide",     house: &["microtome-kernels", "microtome-vault"],     outside: Outside::Unreserved,               must_exist: true },
    Room { floor: 1, name: "microtome-nets",    folder: "crates/nets",      house: &["microtome-kernels", "microtome-vault"],     outside: Outside::Unreserved,               must_exist: true },
    Room { floor: 2, name: "microtome",         folder: "crates/microtome", house: &["microtome-kernels", "microtome-vault", "microtome-slide", "microtome-nets"],
                                                                                                                                  outside: Outside::Unreserved,               must_exist: true },
    Room { floor: 3, name: "microtome-cli",     folder: "apps/cli",         house: &["microtome", "microtome-desk"],              outside: Outside::Unreserved,               must_exist: true },
    Room { floor: 3, name: "microtome-desk",    folder: "apps/desk",        house: &["microtome"],                                outside: Outside::Unreserved,               must_exist: false },
    Room { floor: 3, name: "microtome-python",  folder: "python",           house: &["microtome"],                                outside: Outside::Unreserved,               must_exist: false },
    Room { floor: 9, name: "xtask",             folder: "xtask",            house: &[],                                           outside: Outside::Only(&["toml"]),          must_exist: true },
];

/// Crates from elsewhere that one room alone may name; a star at the end stands for any ending.
const RESERVED: &[(&str, &str)] = &[
    ("burn", "microtome-nets"),
    ("burn-*", "microtome-nets"),
    ("cubecl*", "microtome-nets"),
    ("ort", "microtome-nets"),
    ("rusqlite", "microtome"),
    ("clap", "microtome-cli"),
    ("clap_*", "microtome-cli"),
    ("indicatif", "microtome-cli"),
    ("ctrlc", "microtome-cli"),
    ("axum", "microtome-desk"),
    ("axum-*", "microtome-desk"),
    ("hyper*", "microtome-desk"),
    ("tower*", "microtome-desk"),
    ("http*", "microtome-desk"),
    ("reqwest", "microtome-desk"),
    ("ureq", "microtome-desk"),
    ("tiny_http", "microtome-desk"),
    ("actix-web", "microtome-desk"),
    ("pyo3*", "microtome-python"),
    ("numpy", "microtome-python"),
];

/// Folders whose folders are crates, and crates beside them.
const GROUPS: [&str; 2] = ["crates", "apps"];
const SINGLES: [&str; 2] = ["python", "xtask"];

/// A manifest of the workspace.
struct Manifest {
    folder: String,
    table: Table,
}

/// Holds the table against the manifests.
pub(crate) fn check(root: &Path) -> Outcome {
    let workspace = match read(root, "") {
        Ok(workspace) => workspace,
        Err(why) => return Outcome::impossible("floors", why),
    };
    let (mut manifests, mut faults) = (Vec::new(), Vec::new());
    for folder in folders(root) {
        match read(root, &folder) {
            Ok(manifest) => manifests.push(manifest),
            Err(why) => faults.push(why),
        }
    }
    faults.extend(missing_rooms(&manifests));
    faults.extend(manifests.iter().flat_map(|manifest| faults_of(manifest, &workspace.table)));
    let edges: usize =
        manifests.iter().map(|manifest| dependencies(&manifest.table, &workspace.table).len()).sum();
    let fewest = ROOMS.iter().filter(|room| room.must_exist).count();
    let things = format!("manifests, {edges} dependencies");
    if edges < 20 {
        faults.push(format!("only {edges} dependencies were found, there should be 20 at least"));
    }
    Outcome::new("floors", manifests.len(), fewest, &things, faults)
}

fn folders(root: &Path) -> Vec<String> {
    let mut folders: Vec<String> = SINGLES.iter().map(|name| (*name).to_owned()).collect();
    for group in GROUPS {
        let entries = std::fs::read_dir(root.join(group)).into_iter().flatten().flatten();
        folders.extend(entries.map(|entry| format!("{group}/{}", entry.file_name().to_string_lossy())));
    }
    folders.retain(|folder| root.join(folder).join("Cargo.toml").is_file());
    folders.sort();
    folders
}

fn read(root: &Path, folder: &str) -> Result<Manifest, String> {
    let path = root.join(folder).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let table = text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Manifest { folder: folder.to_owned(), table })
}

fn missing_rooms(manifests: &[Manifest]) -> Vec<String> {
    let is_there = |room: &&Room| manifests.iter().any(|manifest| manifest.folder == room.folder);
    let missing = ROOMS.iter().filter(|room| room.must_exist && !is_there(room));
    missing
        .map(|room| format!("{}: {} is in the table of floors and not here", room.folder, room.name))
        .collect()
}

fn faults_of(manifest: &Manifest, workspace: &Table) -> Vec<String> {
    let folder = &manifest.folder;
    let name = name_of(&manifest.table).unwrap_or_default();
    let Some(room) = ROOMS.iter().find(|room| room.folder == folder && room.name == name) else {
        return vec![format!("{folder}: crate {name:?} is not in the table of floors (xtask/src/floors.rs)")];
    };
    let dependencies = dependencies(&manifest.table, workspace);
    dependencies.iter().filter_map(|dependency| fault(room, dependency)).collect()
}

fn name_of(manifest: &Table) -> Option<&str> {
    manifest.get("package")?.get("name")?.as_str()
}

fn fault(room: &Room, dependency: &str) -> Option<String> {
    let Room { name, folder, floor, house, outside, .. } = room;
    if ROOMS.iter().any(|other| other.name == dependency) {
        let allowed = house.contains(&dependency);
        return (!allowed).then(|| {
            format!(
                "{folder}: {name} (floor {floor}) may not depend on {dependency}; it may on: {}",
                list(house)
            )
        });
    }
    if let Some((pattern, owner)) = RESERVED.iter().find(|(pattern, _)| matches(pattern, dependency))
        && owner != name
    {
        return Some(format!("{folder}: {name} names {dependency}; only {owner} may name {pattern}"));
    }
    match outside {
        Outside::Only(names) if !names.contains(&dependency) => {
            Some(format!("{folder}: {name} may depend on {} only, not on {dependency}", list(names)))
        }
        _ => None,
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |beginning| name.starts_with(beginning))
}

/// Names of all crates that the manifest depends on to run or to build, on any target; renamed ones by their own names.
fn dependencies(manifest: &Table, workspace: &Table) -> Vec<String> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let tables = std::iter::once(manifest).chain(targets.filter_map(Value::as_table));
    let sections = tables.flat_map(|table| [table.get("dependencies"), table.get("build-dependencies")]);
    let entries = sections.flatten().filter_map(Value::as_table).flatten();
    let mut names: Vec<String> = entries.map(|(key, value)| true_name(key, value, workspace)).collect();
    names.sort();
    names
}

fn true_name(key: &str, value: &Value, workspace: &Table) -> String {
    let shared = || workspace.get("workspace")?.get("dependencies")?.get(key)?.get("package")?.as_str();
    let inherits = value.get("workspace").and_then(Value::as_bool).unwrap_or(false);
    let own = value.get("package").and_then(Value::as_str);
    own.or_else(|| if inherits { shared() } else { None }).unwrap_or(key).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(folder: &str, text: &str) -> Vec<String> {
        let workspace: Table =
            "[workspace.dependencies]\nfire = { package = \"burn\", version = \"1\" }".parse().unwrap();
        faults_of(&Manifest { folder: folder.to_owned(), table: text.parse().unwrap() }, &workspace)
    }

    fn of(folder: &str, name: &str, rest: &str) -> Vec<String> {
        faults(folder, &format!("[package]\nname = \"{name}\"\n{rest}"))
    }

    #[test]
    fn lower_floors_and_free_crates_may_be_named() {
        let rest = "[dependencies]\nmicrotome-vault.workspace = true\nburn = \"1\"\nserde = \"1\"";
        assert!(of("crates/nets", "microtome-nets", rest).is_empty());
    }

    #[test]
    fn shortcuts_are_named() {
        let up = of("crates/slide", "microtome-slide", "[dependencies]\nmicrotome-nets.workspace = true");
        assert!(up[0].contains("may not depend on microtome-nets"), "{up:?}");
        let down = of("apps/cli", "microtome-cli", "[dependencies]\nmicrotome-kernels.workspace = true");
        assert!(down[0].contains("it may on: microtome, microtome-desk"), "{down:?}");
        let reserved = of("crates/microtome", "microtome", "[dependencies]\nclap = \"4\"");
        assert!(reserved[0].contains("only microtome-cli may name clap"), "{reserved:?}");
        let closed = of("crates/kernels", "microtome-kernels", "[dependencies]\nserde = \"1\"");
        assert!(closed[0].contains("rayon, libc only"), "{closed:?}");
    }

    #[test]
    fn renamed_target_and_build_dependencies_count_and_those_of_tests_do_not() {
        let renamed = "[dependencies]\nfire.workspace = true";
        assert_eq!(of("crates/slide", "microtome-slide", renamed).len(), 1);
        let target = "[target.'cfg(unix)'.dependencies]\naxum = \"1\"";
        assert_eq!(of("crates/slide", "microtome-slide", target).len(), 1);
        let build = "[build-dependencies]\npyo3-build-config = \"1\"";
        assert_eq!(of("crates/slide", "microtome-slide", build).len(), 1);
        let tests = "[dev-dependencies]\naxum = \"1\"\nmicrotome-nets.workspace = true";
        assert!(of("crates/slide", "microtome-slide", tests).is_empty());
    }

    #[test]
    fn a_crate_that_the_table_does_not_know_is_a_fault() {
        assert_eq!(of("crates/annex", "microtome-annex", "").len(), 1);
    }

    /// The one edge within a floor: the command line starts the desk.
    #[test]
    fn the_table_leads_downwards() {
        for room in ROOMS {
            for below in room.house {
                let below = ROOMS.iter().find(|other| other.name == *below).unwrap();
                let starts_the_desk = room.name == "microtome-cli" && below.name == "microtome-desk";
                assert!(below.floor < room.floor || starts_the_desk, "{} → {}", room.name, below.name);
            }
        }
    }
}
