// Loaded before the page is drawn, so that it never flashes in the wrong colours or language.
(() => {
  let kept = {};
  try {
    kept = {
      theme: localStorage.getItem("moodal.theme"),
      language: localStorage.getItem("moodal.language"),
    };
  } catch {
    // Storage may be forbidden; the browser's own preferences do.
  }
  if (kept.theme) document.documentElement.dataset.theme = kept.theme;
  const chinese = (kept.language ?? navigator.language).startsWith("zh");
  document.documentElement.lang = chinese ? "zh-CN" : "en";
})();
