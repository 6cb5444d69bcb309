//! What is told of a folder that cannot be a store.

use super::*;

#[tokio::test]
async fn a_folder_that_another_holds_is_locked() {
    let folder = Folder::new();
    let _held = folder.embedded().await.unwrap();
    assert!(matches!(folder.refusal().await, StoreError::Locked(_)));
}

#[tokio::test]
async fn a_folder_let_go_of_opens_at_once() {
    let folder = Folder::new();
    for _ in 0..3 {
        drop(folder.embedded().await.unwrap());
    }
}

#[tokio::test]
async fn a_path_of_a_file_is_refused() {
    let folder = Folder::new();
    std::fs::write(folder.path(), "not a store").unwrap();
    let refusal = folder.refusal().await.to_string();
    assert!(refusal.contains("not a folder"), "{refusal}");
}

#[tokio::test]
async fn a_folder_of_other_files_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path()).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let refusal = folder.refusal().await.to_string();
    assert!(refusal.contains("holds other files"), "{refusal}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_first_start_that_was_cut_short_is_gone_through_again() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path().join("keyspaces")).unwrap();
    for name in ["lock", "0.jnl"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    folder.embedded().await.unwrap();
}

#[tokio::test]
async fn tables_without_their_version_are_damage_and_not_a_first_start() {
    let folder = Folder::new();
    drop(folder.embedded().await.unwrap());
    std::fs::remove_file(folder.path().join("version")).unwrap();
    let journals = || {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        entries.filter(|e| e.as_ref().unwrap().path().extension().is_some()).count()
    };
    let before = journals();
    assert!(matches!(folder.refusal().await, StoreError::Fatal(_)));
    assert_eq!(journals(), before, "nothing was removed");
}

#[tokio::test]
async fn another_layout_is_refused() {
    let folder = Folder::new();
    let store = folder.embedded().await.unwrap();
    store.tables.meta.insert(keys::meta::LAYOUT, 99u32.to_le_bytes()).unwrap();
    drop(store);
    let refusal = folder.refusal().await.to_string();
    assert!(refusal.contains("layout is version 99"), "{refusal}");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.metadata().unwrap().is_dir() {
            files.extend(self::files(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

/// Every file of the store in turn is overwritten with noise: the store says that it is
/// damaged, when it opens or when it reads, or has everything. It never panics.
#[tokio::test]
async fn a_damaged_file_is_an_error_with_the_path_and_never_a_panic() {
    let whole = Folder::new();
    let store = whole.embedded().await.unwrap();
    let payload = Data::Bytes(Bytes::from_static(&[7; 100]));
    store.write(flush(0..500, payload.clone())).await.unwrap();
    store.tables.events.rotate_memtable_and_wait().unwrap();
    store.write(flush(500..900, payload)).await.unwrap();
    drop(store);
    let mut noticed = 0;
    for file in files(&whole.path()) {
        let file = file.strip_prefix(whole.path()).unwrap();
        let damaged = Folder::new();
        for source in files(&whole.path()) {
            let to = damaged.path().join(source.strip_prefix(whole.path()).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(&source, to).unwrap();
        }
        let mut bytes = std::fs::read(whole.path().join(file)).unwrap();
        bytes.iter_mut().for_each(|byte| *byte ^= 0xa5);
        std::fs::write(damaged.path().join(file), bytes).unwrap();
        let listed = match damaged.embedded().await {
            Ok(store) => store.events(&all(Selector::Type("t".into()))).await,
            Err(refused) => Err(refused),
        };
        match listed {
            Ok(page) => assert_eq!(page.rows.len(), 900, "{} lost rows", file.display()),
            Err(StoreError::Fatal(why)) => {
                assert!(why.contains(&*damaged.path().to_string_lossy()), "{why}");
                noticed += 1;
            }
            Err(other) => panic!("{}: {other:?}", file.display()),
        }
    }
    assert!(noticed > 5, "damage is noticed: {noticed} files");
}
