//! `project.sqlite`: the slides, and every naming of a cluster. What a person did survives a power cut.

use super::slides::ProjectSlide;
use microtome_slide::{MicronsPerPixel, Size};
use microtome_vault::clock::rfc3339_utc;
use microtome_vault::{Error, Result};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The version of the tables that are made; older ones are brought up to it.
const VERSION: i64 = 1;
/// Tells these files from other SQLite files: “mtom”.
const APPLICATION: i64 = 0x6d74_6f6d;

const TABLES: &str = "
    CREATE TABLE slides (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        path TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        width_px INTEGER NOT NULL,
        height_px INTEGER NOT NULL,
        mpp REAL
    ) STRICT;
    CREATE TABLE namings (
        id INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        who TEXT NOT NULL,
        origin TEXT NOT NULL,
        clusters TEXT NOT NULL,
        cluster INTEGER NOT NULL,
        class TEXT,
        share REAL NOT NULL
    ) STRICT;
    CREATE INDEX namings_of_clusters ON namings (clusters, cluster);
";

/// Where the names of clusters come from, the most doubtful last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A person, by a command.
    Command,
    /// A file.
    File,
    /// What people drew, in an experiment.
    Oracle,
}

impl Origin {
    const ALL: [(Self, &str); 3] =
        [(Self::Command, "command"), (Self::File, "file"), (Self::Oracle, "oracle")];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(origin, _)| *origin == self).map_or("", |(_, name)| name)
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, own)| *own == name).map(|(origin, _)| *origin)
    }
}

/// What a cluster was named.
#[derive(Clone, Debug, PartialEq)]
pub struct Naming {
    /// Which cluster.
    pub cluster: usize,
    /// The class; none when the cluster is rejected.
    pub class: Option<String>,
    /// Share of what was shown that is of the class.
    pub share: f64,
    /// Where the name comes from.
    pub origin: Origin,
}

/// The file.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    fn path_in(root: &Path) -> PathBuf {
        root.join("project.sqlite")
    }

    /// Makes the file of a new project. One that a kill left half made is taken over.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn create(root: &Path) -> Result<Self> {
        let path = Self::path_in(root);
        let connection = Connection::open(&path).map_err(|error| failed(&error, &path))?;
        let mut database = Self { connection, path };
        database.prepare()?;
        database.all_or_nothing(|transaction| {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", VERSION)
        })?;
        Ok(database)
    }

    /// Opens the file of a project.
    ///
    /// # Errors
    /// `Input` when it is missing, damaged, something else, or of a newer version.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let path = Self::path_in(root);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(|error| failed(&error, &path))?;
        let database = Self { connection, path };
        let number = |pragma: &str| -> Result<i64> {
            let value = database.connection.pragma_query_value(None, pragma, |row| row.get(0));
            value.map_err(|error| failed(&error, &database.path))
        };
        if number("application_id")? != APPLICATION {
            return Err(Error::input("this is not the database of a project").at(&database.path));
        }
        let version = number("user_version")?;
        if version > VERSION {
            return Err(Error::input(format!(
                "the project is of version {version}, newer than this program"
            ))
            .advise("open it with the program that made it, or a newer one; nothing was changed")
            .at(&database.path));
        }
        database.prepare()?;
        Ok(database)
    }

    /// What is committed is on the disk.
    fn prepare(&self) -> Result<()> {
        let set = |name: &str, value: &str| self.connection.pragma_update(None, name, value);
        set("journal_mode", "WAL")
            .and_then(|()| set("synchronous", "FULL"))
            .map_err(|error| failed(&error, &self.path))
    }

    fn all_or_nothing(
        &mut self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<()> {
        let path = self.path.clone();
        let run = || -> rusqlite::Result<()> {
            let transaction = self.connection.transaction()?;
            work(&transaction)?;
            transaction.commit()
        };
        run().map_err(|error| failed(&error, &path))
    }

    /// The slides, in the order in which they were added.
    ///
    /// # Errors
    /// `Input` when the file is damaged.
    pub fn slides(&self) -> Result<Vec<ProjectSlide>> {
        self.rows("SELECT name, path, sha256, width_px, height_px, mpp FROM slides ORDER BY id", [], |row| {
            let side = |index| row.get::<_, i64>(index).map(|side| usize::try_from(side).unwrap_or(0));
            Ok(ProjectSlide {
                name: row.get(0)?,
                path: PathBuf::from(row.get::<_, String>(1)?),
                sha256: row.get(2)?,
                size: Size::new(side(3)?, side(4)?),
                mpp: row.get::<_, Option<f64>>(5)?.and_then(|mpp| MicronsPerPixel::new(mpp).ok()),
            })
        })
    }

    fn rows<T>(
        &self,
        query: &str,
        values: impl rusqlite::Params,
        make: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let run = || -> rusqlite::Result<Vec<T>> {
            let mut statement = self.connection.prepare(query)?;
            statement.query_map(values, make)?.collect::<rusqlite::Result<Vec<T>>>()
        };
        run().map_err(|error| failed(&error, &self.path))
    }

    /// Adds slides, all or none.
    ///
    /// # Errors
    /// `Usage` when a path is not text; `Io`.
    pub(super) fn add_slides(&mut self, slides: &[ProjectSlide]) -> Result<()> {
        let mut paths = Vec::new();
        for slide in slides {
            let text = slide.path.to_str();
            let not_text =
                || Error::usage("the path is not Unicode text, which a project keeps").at(&slide.path);
            paths.push(text.ok_or_else(not_text)?);
        }
        self.all_or_nothing(|transaction| {
            for (slide, path) in slides.iter().zip(paths) {
                let (width, height) = (slide.size.width_px as i64, slide.size.height_px as i64);
                transaction.execute(
                    "INSERT INTO slides (name, path, sha256, width_px, height_px, mpp) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![slide.name, path, slide.sha256, width, height, slide.mpp.map(|mpp| mpp.microns())],
                )?;
            }
            Ok(())
        })
    }

    /// Keeps names of clusters; `clusters` is the key of the clusters that they name. Nothing that was named before is lost:
    /// of one cluster the last name counts.
    ///
    /// # Errors
    /// `Io`.
    pub fn name(&mut self, clusters: &str, who: &str, namings: &[Naming]) -> Result<()> {
        let now = rfc3339_utc(SystemTime::now());
        self.all_or_nothing(|transaction| {
            for naming in namings {
                transaction.execute(
                    "INSERT INTO namings (at, who, origin, clusters, cluster, class, share) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![
                        now,
                        who,
                        naming.origin.name(),
                        clusters,
                        naming.cluster as i64,
                        naming.class,
                        naming.share
                    ],
                )?;
            }
            Ok(())
        })
    }

    /// The names of clusters that count, by ascending cluster.
    ///
    /// # Errors
    /// `Input` when the file is damaged.
    pub fn namings(&self, clusters: &str) -> Result<Vec<Naming>> {
        let query = "SELECT cluster, class, share, origin FROM namings WHERE id IN
            (SELECT MAX(id) FROM namings WHERE clusters = ?1 GROUP BY cluster) ORDER BY cluster";
        self.rows(query, [clusters], |row| {
            Ok(Naming {
                cluster: usize::try_from(row.get::<_, i64>(0)?).unwrap_or(usize::MAX),
                class: row.get(1)?,
                share: row.get(2)?,
                origin: Origin::named(&row.get::<_, String>(3)?).unwrap_or(Origin::Command),
            })
        })
    }

    /// When a cluster was named last, for other clusters than these: what a new clustering leaves behind.
    ///
    /// # Errors
    /// `Input` when the file is damaged.
    pub fn last_naming_of_others(&self, clusters: &str) -> Result<Option<String>> {
        let query = "SELECT at FROM namings WHERE clusters != ?1 ORDER BY id DESC LIMIT 1";
        let found = self.connection.query_row(query, [clusters], |row| row.get(0)).optional();
        found.map_err(|error| failed(&error, &self.path))
    }
}

fn failed(error: &rusqlite::Error, path: &Path) -> Error {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, NotADatabase, ReadOnly,
        SystemIoFailure,
    };
    let fault = match error.sqlite_error_code() {
        Some(DatabaseBusy | DatabaseLocked) => Error::usage("the project's database is in use elsewhere"),
        Some(DatabaseCorrupt | NotADatabase) => {
            Error::input(format!("the project's database is damaged ({error})"))
                .advise("restore it from a copy; slides can be added and clusters named again")
        }
        Some(CannotOpen) if !path.is_file() => Error::input("the project's database is missing")
            .advise("restore it from a copy; slides can be added and clusters named again"),
        Some(CannotOpen | DiskFull | ReadOnly | SystemIoFailure) => {
            Error::io("using the database", &std::io::Error::other(error.to_string()))
        }
        _ => Error::bug(format!("the database refused ({error})")),
    };
    fault.at(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_vault::Fault;
    use microtome_vault::disk::write_atomic;

    fn naming(cluster: usize, class: Option<&str>) -> Naming {
        Naming { cluster, class: class.map(str::to_owned), share: 0.5, origin: Origin::File }
    }

    #[test]
    fn the_last_name_of_a_cluster_counts_and_all_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::create(folder.path()).unwrap();
        database.name("k", "p", &[naming(3, Some("a")), naming(1, Some("a"))]).unwrap();
        database.name("k", "p", &[naming(3, None)]).unwrap();
        database.name("other", "p", &[naming(1, Some("b"))]).unwrap();
        drop(database);
        let database = Database::open(folder.path()).unwrap();
        assert_eq!(database.namings("k").unwrap(), [naming(1, Some("a")), naming(3, None)]);
        let all: i64 =
            database.connection.query_row("SELECT COUNT(*) FROM namings", [], |row| row.get(0)).unwrap();
        assert_eq!(all, 4);
        assert!(database.last_naming_of_others("k").unwrap().is_some());
    }

    #[test]
    fn slides_are_added_all_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::create(folder.path()).unwrap();
        let slide = |name: &str| ProjectSlide {
            name: name.to_owned(),
            path: PathBuf::from("/s"),
            sha256: "0".to_owned(),
            size: Size::new(5, 4),
            mpp: MicronsPerPixel::new(0.25).ok(),
        };
        database.add_slides(&[slide("a")]).unwrap();
        assert!(database.add_slides(&[slide("b"), slide("a")]).is_err());
        assert_eq!(database.slides().unwrap(), [slide("a")]);
    }

    #[test]
    fn what_is_no_database_of_this_version_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Database::open(folder.path()).unwrap_err().fault(), Fault::Input);
        let path = Database::path_in(folder.path());
        write_atomic(&path, &[7; 9000]).unwrap();
        assert_eq!(Database::open(folder.path()).unwrap_err().fault(), Fault::Input);
        assert_eq!(disk_bytes(&path), vec![7; 9000]);
        let folder = tempfile::tempdir().unwrap();
        let database = Database::create(folder.path()).unwrap();
        database.connection.pragma_update(None, "user_version", VERSION + 1).unwrap();
        drop(database);
        let newer = Database::open(folder.path()).unwrap_err();
        assert!(newer.to_string().contains("newer") && newer.fault() == Fault::Input, "{newer}");
    }

    fn disk_bytes(path: &Path) -> Vec<u8> {
        microtome_vault::disk::read_file_bounded(path, microtome_vault::Budget::DEFAULT).unwrap()
    }
}
