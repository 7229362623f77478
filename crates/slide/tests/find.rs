//! From files and folders to the pictures that are meant.

use std::path::{Path, PathBuf};

use microtome_slide::find_pictures;
use microtome_vault::{Fault, disk};

fn folder_of(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let path = folder.path().join(name);
        disk::create_folder_all(path.parent().unwrap()).unwrap();
        disk::write_atomic(path, b"").unwrap();
    }
    folder
}

fn names_of(found: &[PathBuf], folder: &Path) -> Vec<String> {
    found.iter().map(|path| path.strip_prefix(folder).unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_folder_stands_for_the_pictures_directly_in_it_by_name() {
    let names = [
        "b.PNG",
        "a.tif",
        "c d.JpEg",
        "é.bmp",
        ".hidden.png",
        "notes.txt",
        "png",
        "below/e.png",
        "f.png/g.png",
    ];
    let folder = folder_of(&names);
    let found = find_pictures(&[folder.path().to_owned()]).unwrap();
    assert_eq!(names_of(&found, folder.path()), ["a.tif", "b.PNG", "c d.JpEg", "é.bmp"]);
}

#[test]
fn files_are_taken_as_they_are_named_in_that_order_and_once() {
    let folder = folder_of(&["b.png", "a.dat", "more/c.png"]);
    let path = |name: &str| folder.path().join(name);
    let found = find_pictures(&[path("more"), path("b.png"), path("a.dat"), path("more/../b.png")]).unwrap();
    assert_eq!(names_of(&found, folder.path()), ["more/c.png", "b.png", "a.dat"]);
}

#[test]
fn what_does_not_exist_or_holds_nothing_is_said() {
    let folder = folder_of(&["notes.txt"]);
    let missing = folder.path().join("none.png");
    let error = find_pictures(std::slice::from_ref(&missing)).unwrap_err();
    assert_eq!((error.fault(), error.path()), (Fault::Input, Some(missing.as_path())));
    let error = find_pictures(&[folder.path().to_owned()]).unwrap_err();
    assert_eq!((error.fault(), error.path()), (Fault::Input, Some(folder.path())));
    assert!(error.to_string().contains("png, jpg, jpeg, bmp, tif, tiff, svs, dcm, dicom, mrxs, "), "{error}");
    assert_eq!(find_pictures(&[]).unwrap_err().fault(), Fault::Usage);
}

#[test]
fn two_pictures_of_one_name_are_refused() {
    let folder = folder_of(&["a/x.png", "b/x.tif", "b/y.png"]);
    let error = find_pictures(&[folder.path().join("a"), folder.path().join("b")]).unwrap_err();
    assert_eq!(error.fault(), Fault::Usage);
    let text = error.to_string();
    assert!(text.contains("named x") && text.contains("a/x.png") && text.contains("b/x.tif"), "{text}");
}

#[cfg(unix)]
#[test]
fn links_are_followed() {
    let folder = folder_of(&["real/a.png"]);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("real"), &link).unwrap();
    std::os::unix::fs::symlink(folder.path().join("real/a.png"), folder.path().join("b.png")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("gone"), folder.path().join("c.png")).unwrap();
    assert_eq!(names_of(&find_pictures(&[link]).unwrap(), folder.path()), ["link/a.png"]);
    // A link to nothing is not passed over in silence: reading it will say what is wrong.
    assert_eq!(
        names_of(&find_pictures(&[folder.path().to_owned()]).unwrap(), folder.path()),
        ["b.png", "c.png"]
    );
}

#[test]
fn results_are_named_after_the_file_without_the_double_extension_of_ome_tiff() {
    use microtome_slide::find::name_of;
    let named = [
        ("a.ome.tif", "a"),
        ("b/a.OME.tif", "a.OME"),
        ("a.ome.TIFF", "a"),
        ("a.ome.png", "a.ome"),
        (".ome.tif", ".ome"),
    ];
    for (path, name) in named {
        assert_eq!(name_of(std::path::Path::new(path)), name, "{path}");
    }
}
