//! `microtome.toml`: what a person decides. Commands write into it what they are told, so that it need not be said twice.

use microtome_slide::MicronsPerPixel;
use microtome_vault::{Budget, Error, Result, disk};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The version of the file that is written; older ones are read.
const VERSION: u32 = 1;
/// Largest file that is read.
const LARGEST: Budget = Budget::of_bytes(1 << 20);
/// The value of a mask where nothing is said.
pub const IGNORED: u8 = 255;
/// Most classes: masks have one byte a pixel.
const MOST_CLASSES: usize = 64;
/// Colours that classes get: those of Okabe & Ito (2008), which people with any colour vision tell apart.
const COLOURS: [&str; 8] =
    ["#56b4e9", "#d55e00", "#009e73", "#f0e442", "#cc79a7", "#0072b2", "#e69f00", "#999999"];

/// Where the settings of a project lie.
pub fn path_in(root: &Path) -> PathBuf {
    root.join("microtome.toml")
}

/// What a person decides about a project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Version of this file.
    pub version: u32,
    /// Fixes everything that chance decides.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// Which tiles are looked at.
    #[serde(default)]
    pub tiles: Tiles,
    /// What turns a tile into numbers.
    #[serde(default)]
    pub encoder: Encoder,
    /// How tiles are put together.
    #[serde(default)]
    pub clusters: Clusters,
    /// What tissue can be; a mask holds the place in this list.
    #[serde(default)]
    pub classes: Vec<Class>,
}

fn default_seed() -> u64 {
    1
}

/// Which tiles are looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tiles {
    /// Side of a tile, in pixels: what a person is shown.
    pub side_px: usize,
    /// From one tile to the next, in pixels.
    pub step_px: usize,
    /// Side of the part in the middle that a name is about, in pixels.
    pub named_px: usize,
    /// Resolution in µm per pixel; that of level 0 without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mpp: Option<f64>,
    /// Share of tissue that a tile has at least.
    pub least_tissue: f64,
    /// Tiles of one slide at most, spread evenly over it.
    pub most_a_slide: usize,
    /// Where tiles and vectors were taken from, instead of all that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
}

/// Files that tiles and vectors were taken from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imported {
    /// The folder.
    pub from: PathBuf,
    /// A hash of all files.
    pub sha256: String,
}

impl Default for Tiles {
    fn default() -> Self {
        Self {
            side_px: 128,
            step_px: 32,
            named_px: 32,
            mpp: None,
            least_tissue: 0.5,
            most_a_slide: 20_000,
            imported: None,
        }
    }
}

/// What turns a tile into numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Encoder {
    /// `small`, `texture`, `resnet18`, `resnet34`, `resnet50`, or the file of an encoder.
    pub kind: String,
    /// The paper's recipe, exactly.
    pub paper: bool,
    /// Passes over the tiles; what the recipe says without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
    /// Tiles of a step; what the recipe says without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Tiles of a step that are in memory at a time; all without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tiles_at_once: Option<usize>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { kind: "small".to_owned(), paper: false, epochs: None, batch: None, tiles_at_once: None }
    }
}

/// How tiles are put together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clusters {
    /// K.
    pub count: usize,
    /// Times that k-means begins anew; the best is taken.
    pub restarts: usize,
    /// Tiles that clusters are looked for among, at most; all are put into the clusters that were found.
    pub most_tiles: usize,
}

impl Default for Clusters {
    fn default() -> Self {
        Self { count: 30, restarts: 8, most_tiles: 20_000 }
    }
}

/// What tissue can be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// `#rrggbb`.
    pub colour: String,
}

impl Class {
    /// Red, green, blue.
    pub fn rgb(&self) -> [u8; 3] {
        rgb(&self.colour).unwrap_or([128; 3])
    }
}

fn rgb(colour: &str) -> Option<[u8; 3]> {
    let digits = colour.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
    let part = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    Some([part(0)?, part(2)?, part(4)?])
}

impl Settings {
    /// The defaults, with these classes.
    pub fn with_classes(names: &[String]) -> Self {
        let class = |(index, name): (usize, &String)| Class {
            name: name.clone(),
            colour: COLOURS[index % COLOURS.len()].to_owned(),
        };
        Self {
            version: VERSION,
            seed: default_seed(),
            tiles: Tiles::default(),
            encoder: Encoder::default(),
            clusters: Clusters::default(),
            classes: names.iter().enumerate().map(class).collect(),
        }
    }

    /// # Errors
    /// `Usage` when a value cannot be.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::usage(what));
        let Tiles { side_px, step_px, named_px, mpp, least_tissue, most_a_slide, imported: _ } = &self.tiles;
        if !(16..=4096).contains(side_px) || *step_px == 0 || *named_px == 0 || named_px > side_px {
            return refuse("tiles have a side of 16 to 4096 px, a step, and a named part within them".into());
        }
        if !(0.0..=1.0).contains(least_tissue) || *most_a_slide == 0 {
            return refuse("tiles need a share of tissue from 0 to 1, and there must be some".into());
        }
        mpp.map(MicronsPerPixel::new).transpose()?;
        if [self.encoder.batch, self.encoder.tiles_at_once].into_iter().flatten().any(|tiles| tiles < 2) {
            return refuse("an encoder learns from two tiles at a time at least".into());
        }
        if self.clusters.count == 0 || self.clusters.restarts == 0 || self.clusters.most_tiles == 0 {
            return refuse("clusters, restarts and tiles are 1 at least".into());
        }
        self.check_classes()
    }

    fn check_classes(&self) -> Result<()> {
        if self.classes.len() > MOST_CLASSES {
            return Err(Error::usage(format!("there are at most {MOST_CLASSES} classes")));
        }
        for (index, class) in self.classes.iter().enumerate() {
            let name = class.name.trim();
            if name.is_empty() || name != class.name || name.contains([',', '"', '\n', '\r']) {
                return Err(Error::usage(format!("“{}” cannot be the name of a class", class.name))
                    .advise("names have letters, and neither commas nor quotes"));
            }
            if self.classes[..index].iter().any(|before| before.name == class.name) {
                return Err(Error::usage(format!("the class “{name}” is there twice")));
            }
            if rgb(&class.colour).is_none() {
                return Err(Error::usage(format!("“{}” is no colour", class.colour))
                    .advise("colours are written #rrggbb"));
            }
        }
        Ok(())
    }

    /// The place of a class in the list.
    ///
    /// # Errors
    /// `Usage` when there is no such class.
    pub fn class(&self, name: &str) -> Result<usize> {
        let found = self.classes.iter().position(|class| class.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.classes.iter().map(|class| class.name.as_str()).collect();
            let advice = match names.is_empty() {
                true => {
                    "the project has no classes yet: add them to microtome.toml, or make it with --classes"
                        .to_owned()
                }
                false => format!("the classes are {}", names.join(", ")),
            };
            Error::usage(format!("there is no class “{name}”")).advise(advice)
        })
    }

    /// Reads those of a project.
    ///
    /// # Errors
    /// `Input` when the file is damaged, or of a newer version.
    pub fn read(root: &Path) -> Result<Self> {
        let path = path_in(root);
        let bytes = disk::read_file_bounded(&path, LARGEST)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::input("this is not text").at(&path))?;
        let settings = Self::parse(&text).map_err(|error| error.at(&path))?;
        settings.check().map_err(|error| error.at(&path))?;
        Ok(settings)
    }

    fn parse(text: &str) -> Result<Self> {
        let refused = |error: toml::de::Error| {
            Error::input(format!("the settings cannot be read: {}", error.to_string().trim()))
        };
        let table: toml::Table = text.parse().map_err(refused)?;
        match table.get("version").and_then(toml::Value::as_integer) {
            Some(1) => toml::from_str(text).map_err(refused),
            Some(newer) if newer > i64::from(VERSION) => {
                Err(Error::input(format!("the project is of version {newer}, newer than this program knows"))
                    .advise("open it with the program that made it, or a newer one; nothing was changed"))
            }
            _ => Err(Error::input("the settings do not state their version")
                .advise(format!("begin them with: version = {VERSION}"))),
        }
    }

    /// Keeps them.
    ///
    /// # Errors
    /// `Io`.
    pub fn write(&self, root: &Path) -> Result<()> {
        disk::write_atomic(path_in(root), self.text()?.as_bytes())
    }

    fn text(&self) -> Result<String> {
        let unwritable = |error| Error::bug(format!("the settings cannot be written ({error})"));
        let values = toml::to_string_pretty(self).map_err(unwritable)?;
        Ok(format!(
            "# What is decided about this project. Commands change values here when they are told others;\n\
             # comments are not kept then. docs/tissue.md says what each means.\n\n{values}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut settings = Settings::with_classes(&names(&["other", "gland"]));
        settings.tiles.mpp = Some(0.5);
        settings.encoder.epochs = Some(7);
        assert_eq!(Settings::parse(&settings.text().unwrap()).unwrap(), settings);
        assert_eq!(settings.class("gland").unwrap(), 1);
        let error = settings.class("tumour").unwrap_err();
        assert!(error.advice().unwrap().contains("other, gland"));
        assert_eq!(settings.classes[1].rgb(), [0xd5, 0x5e, 0x00]);
    }

    #[test]
    fn a_file_of_version_one_stays_readable() {
        let text = "version = 1\nseed = 3\n[tiles]\nside_px = 256\n[[classes]]\nname = \"a\"\ncolour = \"#000000\"\n";
        let settings = Settings::parse(text).unwrap();
        assert_eq!((settings.tiles.side_px, settings.tiles.step_px, settings.seed), (256, 32, 3));
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_reason() {
        let newer = Settings::parse("version = 2\nnew = 1").unwrap_err();
        assert!(newer.to_string().contains("newer"), "{newer}");
        assert!(Settings::parse("seed = 1").is_err() && Settings::parse("version = 1\nsede = 1").is_err());
        for classes in [&["a", "a"][..], &[""], &["a,b"], &[" a"]] {
            assert!(Settings::with_classes(&names(classes)).check().is_err(), "{classes:?}");
        }
        let mut settings = Settings::with_classes(&[]);
        settings.tiles.named_px = 200;
        assert!(settings.check().is_err());
        settings = Settings::with_classes(&names(&["a"]));
        settings.classes[0].colour = "#12345é".to_owned();
        assert!(settings.check().is_err());
    }
}
