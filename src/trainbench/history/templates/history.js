// Filters the list of runs. Without it the page shows all of them.
(function () {
  "use strict";
  var form = document.getElementById("filter");
  var rows = Array.prototype.slice.call(document.querySelectorAll("#runs-table tbody tr"));
  if (!form || !rows.length) { return; }
  var count = document.getElementById("shown");
  function apply() {
    var words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    var task = form.elements.task.value, machine = form.elements.machine.value;
    var kept = form.elements.kept.value, shown = 0;
    rows.forEach(function (row) {
      var text = row.getAttribute("data-words");
      var fits = (!task || row.getAttribute("data-task") === task) &&
        (!machine || row.getAttribute("data-machine") === machine) &&
        (!kept || row.getAttribute("data-kept") === kept) &&
        words.every(function (word) { return text.indexOf(word) !== -1; });
      row.hidden = !fits;
      if (fits) { shown += 1; }
    });
    count.textContent = shown + " of " + rows.length + " shown";
  }
  form.addEventListener("input", apply);
  form.addEventListener("change", apply);
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  form.hidden = false;
  apply();
}());
