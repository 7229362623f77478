//! The names of clusters: given one by one, or by a file that a person filled in beside the pictures of the clusters.

use super::asked;
use super::clusters::Clusters;
use crate::context::Context;
use crate::project::Project;
use crate::project::database::{Naming, Origin};
use microtome_vault::{Budget, Error, Result, disk};
use std::path::Path;

/// Largest file of names that is read.
const LARGEST: Budget = Budget::of_bytes(1 << 20);
/// What rejects a cluster in a file.
const REJECTED: &str = "-";

/// Which tiles of a cluster are shown to whom names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Those nearest to the centroid.
    Top(usize),
    /// So many, spread evenly from the nearest to the farthest.
    Sample(usize),
}

impl std::str::FromStr for Shown {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            Error::usage(format!("“{text}” does not say which tiles are shown"))
                .advise("say top:10 for the nearest to the centroid, or sample:10 for an even sample")
        };
        let (kind, count) = text.split_once(':').ok_or_else(refused)?;
        let count: usize =
            count.parse().ok().filter(|count| (1..=1000).contains(count)).ok_or_else(refused)?;
        match kind {
            "top" => Ok(Self::Top(count)),
            "sample" => Ok(Self::Sample(count)),
            _ => Err(refused()),
        }
    }
}

impl Shown {
    /// The tiles of a cluster that are shown, out of all by nearness.
    pub fn of(self, tiles: &[usize]) -> Vec<usize> {
        match self {
            Self::Top(count) => tiles.iter().take(count).copied().collect(),
            // The middles of as many stretches of the same length.
            Self::Sample(count) => {
                let count = count.min(tiles.len());
                (0..count).map(|index| tiles[(2 * index + 1) * tiles.len() / (2 * count)]).collect()
            }
        }
    }
}

/// Keeps names for the project's clusters, and the dictionary that they make; gives how many clusters have a class now.
///
/// # Errors
/// `Usage` when a cluster or a class is unknown; then nothing is kept. Those of making a dictionary.
pub fn name(
    project: &mut Project,
    clusters: &Clusters,
    who: &str,
    namings: &[Naming],
    context: &Context<'_>,
) -> Result<usize> {
    for naming in namings {
        clusters.check(&[naming.cluster])?;
        if let Some(class) = &naming.class {
            project.settings.class(class)?;
        }
    }
    project.database.name(&clusters.key, who, namings)?;
    let all = project.database.namings(&clusters.key)?;
    let named = all.iter().filter(|naming| naming.class.is_some()).count();
    match named {
        0 => asked::forget_dictionary(project)?,
        _ => asked::keep_dictionary(project, clusters, context).map(drop)?,
    }
    Ok(named)
}

/// The names in a file: `cluster,class` and maybe `share`, the share of what was shown that is of the class. A line without a
/// class leaves the cluster without a name; `-` rejects it. Other columns are passed over.
///
/// # Errors
/// `Input` when it is not such a file.
pub fn read_file(path: &Path) -> Result<Vec<Naming>> {
    let bytes = disk::read_file_bounded(path, LARGEST)?;
    parse(&bytes).map_err(|error| error.at(path))
}

/// What stands between the columns: spreadsheets write what is usual in their country, with a comma in numbers where it is a semicolon.
fn separator_of(bytes: &[u8]) -> u8 {
    let header = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    [b',', b';', b'\t'].into_iter().find(|separator| header.contains(separator)).unwrap_or(b',')
}

fn parse(bytes: &[u8]) -> Result<Vec<Naming>> {
    let refused = |what: String| {
        Error::input(what).advise("names are a table with the columns cluster and class, and maybe share")
    };
    let separator = separator_of(bytes);
    let mut reader =
        csv::ReaderBuilder::new().delimiter(separator).trim(csv::Trim::All).flexible(true).from_reader(bytes);
    let headers =
        reader.headers().map_err(|error| refused(format!("the file is no table ({error})")))?.clone();
    let column = |name: &str| headers.iter().position(|header| header.eq_ignore_ascii_case(name));
    let (Some(cluster), Some(class)) = (column("cluster"), column("class")) else {
        return Err(refused("the table has no columns cluster and class".to_owned()));
    };
    let share = column("share");
    let mut namings: Vec<Naming> = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let line = index + 2;
        let record = record.map_err(|error| refused(format!("line {line} cannot be read ({error})")))?;
        let field = |column: usize| record.get(column).unwrap_or_default();
        let Ok(cluster) = field(cluster).parse::<usize>() else {
            return Err(refused(format!("line {line}: “{}” is not the number of a cluster", field(cluster))));
        };
        if field(class).is_empty() {
            continue;
        }
        let share = match share.map(field).filter(|share| !share.is_empty()) {
            None => 1.0,
            Some(text) => match text.replace(',', ".").parse::<f64>() {
                Ok(share) if (0.0..=1.0).contains(&share) => share,
                _ => return Err(refused(format!("line {line}: “{text}” is not a share from 0 to 1"))),
            },
        };
        if namings.iter().any(|naming| naming.cluster == cluster) {
            return Err(refused(format!("line {line}: cluster {cluster} is named twice")));
        }
        let class = Some(field(class).to_owned()).filter(|class| class != REJECTED);
        namings.push(Naming { cluster, class, share, origin: Origin::File });
    }
    if namings.is_empty() { Err(refused("no cluster is named".to_owned())) } else { Ok(namings) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_names_is_read_and_what_is_none_refused() {
        let read =
            parse(b"cluster,tiles,class,share\n0,12,gland,0.9\n1,3,,\n2,4,-,\n3,1, other ,\n").unwrap();
        let found: Vec<_> = read.iter().map(|n| (n.cluster, n.class.as_deref(), n.share)).collect();
        assert_eq!(found, [(0, Some("gland"), 0.9), (2, None, 1.0), (3, Some("other"), 1.0)]);
        let of_a_spreadsheet =
            parse(b"cluster;tiles;class;share\n0;12;gland, large;0,9\n1;3;;\n2;4;-;\n").unwrap();
        let found: Vec<_> =
            of_a_spreadsheet.iter().map(|n| (n.cluster, n.class.as_deref(), n.share)).collect();
        assert_eq!(found, [(0, Some("gland, large"), 0.9), (2, None, 1.0)]);
        assert_eq!(parse(b"cluster\tclass\n7\tgland\n").unwrap()[0].cluster, 7);
        for wrong in [
            &b"a,b\n1,2\n"[..],
            b"cluster,class\nx,gland\n",
            b"cluster,class\n1,a\n1,b\n",
            b"cluster,class,share\n1,a,2\n",
            b"cluster,class\n",
            b"\xff\xfe",
        ] {
            assert!(parse(wrong).is_err(), "{:?}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn what_is_shown_is_the_nearest_or_an_even_sample() {
        let tiles: Vec<usize> = (0..100).collect();
        assert_eq!("top:3".parse::<Shown>().unwrap().of(&tiles), [0, 1, 2]);
        assert_eq!("sample:4".parse::<Shown>().unwrap().of(&tiles), [12, 37, 62, 87]);
        assert_eq!(Shown::Sample(9).of(&tiles[..2]), [0, 1]);
        assert!(Shown::Sample(9).of(&[]).is_empty());
        for wrong in ["top", "top:0", "all:3", "sample:x"] {
            assert!(wrong.parse::<Shown>().is_err(), "{wrong}");
        }
    }
}
