//! The formats of other scanners, through OpenSlide's library where the machine has it: it is looked for when the first
//! such slide is opened, and nothing else needs it.
#![allow(unsafe_code)] // A library in C is called; each use is argued where it stands.

use std::ffi::{CStr, CString, OsString, c_char, c_void};
use std::path::Path;
use std::sync::OnceLock;

use libloading::Library;
use microtome_vault::{Budget, Error, Result};

use super::cache::TileCache;
use super::source::{Tile, TileSource};
use super::{AssociatedImage, Level, Slide, SlideFormat, TilePlace};
use crate::formats::{damaged, unsupported};
use crate::{MicronsPerPixel, Size};

/// Extensions of the formats that only OpenSlide reads, in lower case: MIRAX, Hamamatsu, Leica, Ventana, Zeiss, Sakura.
pub(crate) const EXTENSIONS: [&str; 8] = ["mrxs", "ndpi", "vms", "vmu", "scn", "bif", "czi", "svslide"];
/// Where the library is, if the system does not find it by its name.
const VARIABLE: &str = "MICROTOME_OPENSLIDE";
/// Its names on Linux, macOS and Windows.
const NAMES: [&str; 4] =
    ["libopenslide.so.1", "libopenslide.so.0", "libopenslide.1.dylib", "libopenslide-1.dll"];
/// Side of the tiles that are asked for, in pixels: its own need not be squares, nor the same everywhere.
const TILE_PX: usize = 512;
/// Pictures beside the levels may be this large, in pixels.
const LARGEST_ASSOCIATED_PX: u64 = 100_000_000;

/// Whether a file is one that only OpenSlide reads, by its name.
pub(super) fn is_for_it(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    EXTENSIONS.iter().any(|known| extension == *known)
}

/// Where the library was found, for who asks what this machine can do.
pub fn location() -> Option<String> {
    Api::get().map(|api| api.location.clone())
}

type Handle = *mut c_void;

/// The functions of the library that are called, as `openslide.h` declares them (version 3.4 on).
struct Api {
    location: String,
    open: unsafe extern "C" fn(*const c_char) -> Handle,
    close: unsafe extern "C" fn(Handle),
    error: unsafe extern "C" fn(Handle) -> *const c_char,
    level_count: unsafe extern "C" fn(Handle) -> i32,
    level_dimensions: unsafe extern "C" fn(Handle, i32, *mut i64, *mut i64),
    level_downsample: unsafe extern "C" fn(Handle, i32) -> f64,
    read_region: unsafe extern "C" fn(Handle, *mut u32, i64, i64, i32, i64, i64),
    property: unsafe extern "C" fn(Handle, *const c_char) -> *const c_char,
    associated_names: unsafe extern "C" fn(Handle) -> *const *const c_char,
    associated_dimensions: unsafe extern "C" fn(Handle, *const c_char, *mut i64, *mut i64),
    read_associated: unsafe extern "C" fn(Handle, *const c_char, *mut u32),
    /// Keeps the functions where they are.
    _library: Library,
}

impl Api {
    /// The library, if there is one; looked for once.
    fn get() -> Option<&'static Self> {
        static API: OnceLock<Option<Api>> = OnceLock::new();
        API.get_or_init(|| {
            let stated = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
            let names = || NAMES.iter().map(OsString::from).collect();
            let names: Vec<OsString> = stated.map_or_else(names, |path| vec![path]);
            names.into_iter().find_map(Self::load)
        })
        .as_ref()
    }

    fn load(name: OsString) -> Option<Self> {
        // SAFETY: loading runs the library's initialisers. It is the system's OpenSlide, or the one that the user names.
        let library = unsafe { Library::new(&name) }.ok()?;
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the type is that of the function in openslide.h, which has not changed since version 3.4.
                *unsafe { library.get($name) }.ok()?
            };
        }
        Some(Self {
            location: name.to_string_lossy().into_owned(),
            open: function!(b"openslide_open\0"),
            close: function!(b"openslide_close\0"),
            error: function!(b"openslide_get_error\0"),
            level_count: function!(b"openslide_get_level_count\0"),
            level_dimensions: function!(b"openslide_get_level_dimensions\0"),
            level_downsample: function!(b"openslide_get_level_downsample\0"),
            read_region: function!(b"openslide_read_region\0"),
            property: function!(b"openslide_get_property_value\0"),
            associated_names: function!(b"openslide_get_associated_image_names\0"),
            associated_dimensions: function!(b"openslide_get_associated_image_dimensions\0"),
            read_associated: function!(b"openslide_read_associated_image\0"),
            _library: library,
        })
    }
}

/// A slide that the library has opened.
struct Opened {
    api: &'static Api,
    handle: Handle,
    levels: Vec<Size>,
    downsamples: Vec<f64>,
    associated: Vec<(CString, Size)>,
}

// SAFETY: OpenSlide documents that all its functions but closing may be called by several threads at once, and a slide is
// closed by its only owner.
unsafe impl Send for Opened {}
// SAFETY: as above.
unsafe impl Sync for Opened {}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nobody else has it any more.
        unsafe { (self.api.close)(self.handle) }
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("levels", &self.levels).finish_non_exhaustive()
    }
}

/// Opens a slide.
///
/// # Errors
/// `Input` when the library is missing, or refuses the file.
pub(super) fn open(path: &Path) -> Result<Slide> {
    let Some(api) = Api::get() else { return Err(missing().at(path)) };
    let opened = Opened::of(api, path).map_err(|error| error.at(path))?;
    let number = |name: &CStr| opened.property(name)?.parse().ok();
    let mpp = || MicronsPerPixel::plausible_square(number(c"openslide.mpp-x")?, number(c"openslide.mpp-y")?);
    let level = |(size, downsample): (&Size, &f64)| Level {
        size: *size,
        downsample: *downsample,
        tile: Size::new(TILE_PX, TILE_PX),
        compression: opened.property(c"openslide.vendor").unwrap_or_else(|| "unknown".to_owned()),
    };
    let power: Option<f64> = number(c"openslide.objective-power");
    Ok(Slide {
        path: path.to_owned(),
        format: SlideFormat::OpenSlide,
        levels: opened.levels.iter().zip(&opened.downsamples).map(level).collect(),
        mpp: mpp(),
        objective_power: power.filter(|power| *power > 0.0),
        associated: opened.associated.iter().map(associated).collect(),
        warnings: Vec::new(),
        source: Box::new(opened),
        cache: TileCache::default(),
    })
}

fn missing() -> Error {
    Error::input("slides of this kind are read through OpenSlide's library, which was not found").advise(format!(
        "install it (Debian and Ubuntu: libopenslide0 or libopenslide1, macOS: brew install openslide), or `pip install \
         openslide-bin` and set {VARIABLE} to the library inside of that package"
    ))
}

fn associated((name, size): &(CString, Size)) -> AssociatedImage {
    AssociatedImage { name: name.to_string_lossy().into_owned(), size: *size }
}

impl Opened {
    fn of(api: &'static Api, path: &Path) -> Result<Self> {
        let name = CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| Error::input("a path with a zero in it"))?;
        // SAFETY: the name ends with a zero.
        let handle = unsafe { (api.open)(name.as_ptr()) };
        if handle.is_null() {
            return Err(unsupported("slide", "is none that OpenSlide knows"));
        }
        let mut opened =
            Self { api, handle, levels: Vec::new(), downsamples: Vec::new(), associated: Vec::new() };
        opened.check()?;
        // SAFETY: the handle is open, here and in what follows.
        let count = unsafe { (api.level_count)(handle) };
        for level in 0..count {
            let size = opened.size(|width, height| {
                // SAFETY: both point to numbers that live until the call has returned.
                unsafe { (api.level_dimensions)(handle, level, width, height) }
            })?;
            opened.levels.push(size);
            // SAFETY: there is such a level.
            opened.downsamples.push(unsafe { (api.level_downsample)(handle, level) });
        }
        let is_plain = |downsample: &f64| downsample.is_finite() && *downsample >= 1.0;
        if opened.levels.is_empty() || !opened.downsamples.iter().all(is_plain) {
            return Err(damaged("slide", "it has no levels"));
        }
        opened.find_associated()?;
        Ok(opened)
    }

    fn find_associated(&mut self) -> Result<()> {
        // SAFETY: the handle is open; the list ends with a null pointer and lives as long as the handle.
        let names = unsafe { (self.api.associated_names)(self.handle) };
        for index in 0.. {
            // SAFETY: entries before this one were not the last.
            let name = unsafe { *names.add(index) };
            if name.is_null() {
                break;
            }
            // SAFETY: it is a text that ends with a zero.
            let name = unsafe { CStr::from_ptr(name) }.to_owned();
            let size = self.size(|width, height| {
                // SAFETY: both point to numbers that live until the call has returned.
                unsafe { (self.api.associated_dimensions)(self.handle, name.as_ptr(), width, height) }
            });
            // One that cannot be read is no reason to refuse the slide.
            if let Ok(size) = size {
                self.associated.push((name, size));
            }
        }
        Ok(())
    }

    fn size(&self, ask: impl FnOnce(*mut i64, *mut i64)) -> Result<Size> {
        let (mut width, mut height) = (-1, -1);
        ask(&raw mut width, &raw mut height);
        self.check()?;
        match (usize::try_from(width), usize::try_from(height)) {
            (Ok(width), Ok(height)) if width > 0 && height > 0 => Ok(Size::new(width, height)),
            _ => Err(damaged("slide", "it states no extent")),
        }
    }

    fn property(&self, name: &CStr) -> Option<String> {
        // SAFETY: the handle is open, and the name ends with a zero.
        let value = unsafe { (self.api.property)(self.handle, name.as_ptr()) };
        // SAFETY: what is not null is a text that ends with a zero and lives as long as the handle.
        (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned())
    }

    /// The library keeps the first error of a slide, and answers nothing more after it.
    fn check(&self) -> Result<()> {
        // SAFETY: the handle is open.
        let error = unsafe { (self.api.error)(self.handle) };
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: it is a text that ends with a zero and lives as long as the handle.
        Err(damaged("slide", unsafe { CStr::from_ptr(error) }.to_string_lossy()))
    }

    /// Pixels that `read` fills, on white.
    fn pixels(&self, size: Size, budget: Budget, read: impl FnOnce(*mut u32)) -> Result<Tile> {
        let area_px = (size.width_px as u64).saturating_mul(size.height_px as u64);
        budget.grant(&format!("{size} pixels of this slide"), area_px, 7)?;
        let mut argb = vec![0u32; size.area_px()];
        read(argb.as_mut_ptr());
        self.check()?;
        // Colours are multiplied by their opacity; where there is nothing, it is zero.
        let on_white = |pixel: &u32| {
            let [opacity, colours @ ..] = pixel.to_be_bytes();
            colours.map(|colour| colour.saturating_add(255 - opacity))
        };
        Ok(Tile { size, rgb: argb.iter().flat_map(on_white).collect() })
    }
}

impl TileSource for Opened {
    fn tiling(&self, level: usize) -> (Size, (usize, usize)) {
        match self.levels.get(level) {
            Some(size) => {
                let grid = (size.width_px.div_ceil(TILE_PX), size.height_px.div_ceil(TILE_PX));
                (Size::new(TILE_PX, TILE_PX), grid)
            }
            None => (self.associated[level - self.levels.len()].1, (1, 1)),
        }
    }

    fn can_read(&self, _: usize) -> bool {
        true
    }

    fn prepare(&self, _: usize) -> Result<()> {
        Ok(())
    }

    fn tile(&self, level: usize, place: TilePlace, budget: Budget) -> Result<Option<Tile>> {
        let Some(&whole) = self.levels.get(level) else {
            let (name, size) = &self.associated[level - self.levels.len()];
            if size.area_px() as u64 > LARGEST_ASSOCIATED_PX {
                return Err(damaged("slide", "a picture beside the levels is too large"));
            }
            let read = |pixels| {
                // SAFETY: the library fills as many pixels as it told.
                unsafe { (self.api.read_associated)(self.handle, name.as_ptr(), pixels) }
            };
            return self.pixels(*size, budget, read).map(Some);
        };
        let (left, top) = (place.column * TILE_PX, place.row * TILE_PX);
        let size = Size::new(TILE_PX.min(whole.width_px - left), TILE_PX.min(whole.height_px - top));
        // Corners are asked for in level 0, in whole pixels.
        let in_level0 = |at: usize| (at as f64 * self.downsamples[level]).round() as i64;
        let (x, y) = (in_level0(left), in_level0(top));
        let (width, height) = (size.width_px as i64, size.height_px as i64);
        let read = |pixels| {
            // SAFETY: the library fills width × height pixels, which is what there is room for.
            unsafe { (self.api.read_region)(self.handle, pixels, x, y, level as i32, width, height) }
        };
        self.pixels(size, budget, read).map(Some)
    }

    fn jpeg_tile(&self, _: usize, _: TilePlace) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
}
