"use strict";(()=>{try{let e=localStorage.getItem("weir-scheme");(e==="dark"||e==="light")&&(document.documentElement.dataset.scheme=e)}catch{}})();
